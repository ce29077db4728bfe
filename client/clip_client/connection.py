"""Interface of a connection to one Triton: one attempt at a time, errors of ours; and the choice of its form by the address."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from clip_client.connection_options import Options
from clip_client.errors import Closed, Unavailable
from clip_client.server_addresses import GRPC, ServerAddress

IDLE_S = 4.0
"""Seconds that a connection is kept without requests: servers close theirs after 5 s or more, perhaps while one comes."""
Rows = Sequence[bytes] | npt.NDArray[np.uint8]
"""Byte strings, sent as a BYTES tensor [N, 1]; or an array, sent unchanged."""


class Outage(Unavailable):
    """Nobody answers, or a server on its way down: the request may be sent again, or to another server."""


class Lost(Outage):
    """The connection ended before the answer: the server may have done what was asked."""


class Connection(Protocol):
    """Connection to one server. Of a blocking client its coroutines never suspend, and threads may share it.

    Each method raises Outage where the request may be repeated, Timeout after ``timeout_s``, Unauthorized for the token, and
    InvalidInput or Unavailable otherwise.
    """

    @property
    def address(self) -> ServerAddress:
        """Address of the server."""

    async def config(self, model: str, *, timeout_s: float) -> Any:
        """Return a model's configuration: Triton's ``ModelConfig``, or over HTTP some of its fields."""

    async def server(self, *, timeout_s: float) -> tuple[str, str, Sequence[str]]:
        """Return the server's name, its version, and the extensions of the protocol that it speaks."""

    async def not_ready(self, models: Sequence[str], *, timeout_s: float) -> str:
        """Return a reason if the server or a model isn't ready; empty if all are."""

    async def infer(
        self, model: str, rows: Rows, name: str, outputs: Sequence[str], *, timeout_s: float
    ) -> list[npt.NDArray[Any]]:
        """Send rows as the tensor ``name``; return the outputs in order."""

    async def statistics(self, *, timeout_s: float) -> Any:
        """Return every model's counters since the server started, Triton's ``ModelStatisticsResponse`` protobuf."""

    async def close(self) -> None:
        """Close it; later calls raise Unavailable."""


def connection(address: ServerAddress, options: Options, *, on_loop: bool) -> Connection:
    """Return a connection that isn't open yet: awaited on an event loop, or blocking."""
    if address.scheme in GRPC:
        try:
            from clip_client.grpc_connection import GrpcConnection  # gRPC is loaded where it is spoken
        except ImportError as problem:
            raise Unavailable(
                f"{address} needs gRPC ({problem}): pip install 'tritonclient[grpc]', or, where there is none for this system, "
                "the server's HTTP, http://host:8000"
            ) from problem
        return GrpcConnection(address, options, on_loop=on_loop)
    if on_loop:
        from clip_client.rest_on_loop import RestOnLoop

        return RestOnLoop(address, options)
    from clip_client.rest_connection import BlockingRest

    return BlockingRest(address, options)


def closed(address: object) -> Closed:
    """Return the error for a use after the end."""
    return Closed(f"the connection to {address} was closed: make a new client")


def refused_token(address: object, *, had_token: bool, is_forbidden: bool, answer: str) -> str:
    """Return the message for a server that asks for a token, or for another one."""
    told = f" ({answer})" if answer else ""
    if not had_token:
        return f"{address} asks for a token{told}: pass token, or set the variable of it"
    if is_forbidden:
        return f"{address} doesn't allow this with the token that was sent{told}: ask its owner for the right"
    return f"{address} refuses the token that was sent{told}: pass the right one"
