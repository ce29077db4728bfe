"""Hosts whose calls block, for callers that await."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from clip_client.concurrency import Concurrency

_T = TypeVar("_T")


class BlockingHost(Protocol):
    """Models that are asked by calls that block; safe to use from several threads. Attributes are those of a ModelHost."""

    address: str
    outages: int

    def config(self, model: str) -> Any:
        """As :meth:`ModelHost.config`."""

    def not_ready(self, models: Sequence[str], *, timeout_s: float) -> str:
        """As :meth:`ModelHost.not_ready`."""

    def server(self) -> tuple[str, str, Sequence[str]]:
        """As :meth:`ModelHost.server`."""

    def infer(
        self, model: str, rows: Sequence[bytes] | npt.NDArray[np.uint8], name: str, outputs: Sequence[str]
    ) -> list[npt.NDArray[Any]]:
        """As :meth:`ModelHost.infer`."""

    def close(self) -> None:
        """As :meth:`ModelHost.close`."""


class AwaitedHost:
    """A blocking host whose calls are awaited: in place, or wherever a client's concurrency calls what blocks."""

    def __init__(self, host: BlockingHost, concurrency: Concurrency) -> None:
        self._host = host
        self._concurrency = concurrency
        self.address = host.address

    @property
    def outages(self) -> int:
        """Times that the host was unavailable."""
        return self._host.outages

    async def config(self, model: str) -> Any:
        """Return a model's configuration."""
        return await self._awaited(lambda: self._host.config(model))

    async def not_ready(self, models: Sequence[str], *, timeout_s: float) -> str:
        """Return a reason if a model isn't ready; empty if all are."""
        return await self._awaited(lambda: self._host.not_ready(models, timeout_s=timeout_s))

    async def server(self) -> tuple[str, str, Sequence[str]]:
        """Return the host's own name, version and extensions."""
        return await self._awaited(self._host.server)

    async def infer(
        self, model: str, rows: Sequence[bytes] | npt.NDArray[np.uint8], name: str, outputs: Sequence[str]
    ) -> list[npt.NDArray[Any]]:
        """Send N rows to a model; return the outputs in order."""
        return await self._awaited(lambda: self._host.infer(model, rows, name, outputs))

    async def close(self) -> None:
        """Close the host."""
        self._host.close()

    async def _awaited(self, call: Callable[[], _T]) -> _T:
        [answer] = await self._concurrency.apply(_called, [call], 1)
        return answer


def _called(call: Callable[[], _T]) -> _T:
    return call()
