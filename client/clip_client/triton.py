"""Blocking conversation with Triton, without a checkpoint's name: for programs that look at the server itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

from clip_client import connection_options
from clip_client.blocking import run
from clip_client.concurrency import Threads
from clip_client.connect import clip_host, servers_at
from clip_client.connection import Rows


class Triton:
    """Connection to one Triton, or several; safe to use from several threads. Options come from the environment."""

    def __init__(self, address: str, *, timeout_s: float) -> None:
        options = connection_options.options(timeout_s)
        self._servers = clip_host(servers_at(address, options), options, Threads())
        self.address = self._servers.address

    def config(self, model: str) -> Any:
        """Return the model's configuration, Triton's ``ModelConfig`` protobuf."""
        return run(self._servers.config(model))

    def not_ready(self, models: Sequence[str], *, timeout_s: float) -> str:
        """Return a reason if the server or a model isn't ready; empty if all are."""
        return run(self._servers.not_ready(models, timeout_s=timeout_s))

    def server(self) -> tuple[str, str, Sequence[str]]:
        """Return the server's name, its version, and the extensions of the protocol that it speaks."""
        return run(self._servers.server())

    def statistics(self) -> Any:
        """Return every model's counters since the server started, Triton's ``ModelStatisticsResponse`` protobuf."""
        return run(self._servers.statistics())

    def infer(self, model: str, rows: Rows, name: str, outputs: Sequence[str]) -> list[npt.NDArray[Any]]:
        """Send N byte strings as the BYTES tensor ``name`` [N, 1], or an array unchanged; return the outputs in order."""
        return run(self._servers.infer(model, rows, name, outputs))

    def close(self) -> None:
        """Close the connection."""
        run(self._servers.close())

    def __enter__(self) -> Triton:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()
