"""Host of published models on one Triton or several: turns, retries, time limits, and one error for all that are down."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy.typing as npt

from clip_client import tls_faults
from clip_client.concurrency import Concurrency
from clip_client.connection import Connection, Outage, Rows
from clip_client.connection_options import Options
from clip_client.errors import ClipError, ContractMismatch, Timeout, Unavailable
from clip_client.retry_pauses import pauses_s
from clip_client.rota import Rota
from clip_client.served_model import Rolling, ServedModel, served_model

_T = TypeVar("_T")
_LEAST_S = 0.001  # left for an attempt; gRPC takes no less


@dataclass
class _Server:
    connection: Connection
    is_known: bool = False  # its checkpoint was compared since it last failed


class Servers:
    """Servers of one checkpoint; its coroutines suspend only where the connections and the concurrency do.

    Attributes:
        address: of the only server, or of all.
        outages: failures of the only server; another checkpoint may have come up since. Several are compared here.
    """

    def __init__(
        self, connections: Sequence[Connection], options: Options, concurrency: Concurrency, *, name: str = ""
    ) -> None:
        self.address = ", ".join(str(connection.address) for connection in connections)
        self.outages = 0
        self._servers = [_Server(connection) for connection in connections]
        self._options = options
        self._concurrency = concurrency
        self._name = name  # of the checkpoint that all must hold; empty for no comparison
        self._model: tuple[Connection, ServedModel] | None = None  # the first one that answered, for the comparison
        self._rota = Rota(len(connections))

    async def config(self, model: str) -> Any:
        """Return a model's configuration, Triton's ``ModelConfig`` protobuf."""
        return await self._asked(lambda connection, timeout_s: connection.config(model, timeout_s=timeout_s))

    async def server(self) -> tuple[str, str, Sequence[str]]:
        """Return a server's name, its version, and the extensions of the protocol that it speaks."""
        return await self._asked(lambda connection, timeout_s: connection.server(timeout_s=timeout_s))

    async def not_ready(self, models: Sequence[str], *, timeout_s: float) -> str:
        """Return a reason if no server is ready with these models; empty if one is."""
        self._concurrency.check()
        reasons, problems = [], dict[Connection, ClipError]()
        for server in self._servers:
            try:
                reason = await self._concurrency.complete(server.connection.not_ready(models, timeout_s=timeout_s))
            except ClipError as problem:
                problems[server.connection] = problem
                continue
            if not reason:
                return ""
            reasons.append(reason if len(self._servers) == 1 else f"{server.connection.address}: {reason}")
        return "; ".join([*reasons, *([str(await self._unavailable(problems))] if problems else [])])

    async def infer(self, model: str, rows: Rows, name: str, outputs: Sequence[str]) -> list[npt.NDArray[Any]]:
        """Send N byte strings as the BYTES tensor ``name`` [N, 1], or an array unchanged; return the outputs in order."""
        return await self._asked(
            lambda connection, timeout_s: connection.infer(model, rows, name, outputs, timeout_s=timeout_s)
        )

    async def statistics(self) -> Any:
        """Return every model's counters since the server started, Triton's ``ModelStatisticsResponse`` protobuf."""
        return await self._asked(lambda connection, timeout_s: connection.statistics(timeout_s=timeout_s))

    async def close(self) -> None:
        """Close all connections."""
        for server in self._servers:
            await server.connection.close()

    async def _asked(self, send: Callable[[Connection, float], Coroutine[Any, Any, _T]]) -> _T:
        """Ask the server whose turn it is, then the others, then all again after a pause, within the time allowed.

        Raises:
            Unavailable, Timeout: none of them answers; the message names each with its reason.
        """
        self._concurrency.check()
        deadline, problems = time.monotonic() + self._options.request_s, dict[Connection, ClipError]()
        for pause_s in pauses_s(self._options.retries):
            if pause_s:
                if time.monotonic() + pause_s > deadline:
                    break
                await self._concurrency.sleep(pause_s)
            for n in self._rota.order():
                server, left_s = self._servers[n], deadline - time.monotonic()
                if problems and left_s < _LEAST_S:
                    break
                try:
                    await self._compare(server)
                    allowed_s = max(min(left_s, self._options.attempt_s), _LEAST_S)
                    answer = await self._concurrency.complete(send(server.connection, allowed_s))
                except (Outage, Timeout) as problem:
                    self._fail(n)
                    problems[server.connection] = problem
                    continue
                self._rota.answered(n)
                return answer
        try:
            raise await self._unavailable(problems)
        finally:
            problems.clear()  # their tracebacks hold this frame, and it them: the client would wait for the garbage collector

    def _fail(self, number: int) -> None:
        self._rota.failed(number)
        self._servers[number].is_known = False
        self.outages += len(self._servers) == 1

    async def _compare(self, server: _Server) -> None:
        """Refuse a server with another space than the first one, before it gets a request."""
        if server.is_known or len(self._servers) == 1 or not self._name:
            return
        try:
            model = await served_model(_OneServer(server.connection, self._options), self._name)
        except Rolling:  # compared once it has gone over; its answers name their space
            return
        first, expected = self._model or (server.connection, model)
        self._model = first, expected
        for what, here, there in _differences(model, expected):
            raise ContractMismatch(
                f"{server.connection.address} has the {what} {here}, {first.address} {there}: serve one checkpoint on all, "
                "or several of one space"
            )
        server.is_known = True

    async def _unavailable(self, problems: Mapping[Connection, ClipError]) -> ClipError:
        """Return one error for servers that didn't answer."""
        if len(problems) == 1 and len(self._servers) == 1:
            [(connection, problem)] = problems.items()
            if not isinstance(problem, Outage):
                return problem
            fault = await self._fault(connection, problem)
            if fault:
                return Unavailable(f"{connection.address} can't be reached: {fault}")
            return Unavailable(f"{connection.address} can't be reached ({problem}): is it up? 'clipserve serve' starts one")
        reasons = [
            f"{connection.address} ({await self._fault(connection, problem) or problem})"
            for connection, problem in problems.items()
        ]
        kind = Timeout if all(isinstance(problem, Timeout) for problem in problems.values()) else Unavailable
        return kind(f"none of {len(self._servers)} servers answers: {'; '.join(reasons)}")

    async def _fault(self, connection: Connection, problem: ClipError) -> str:
        """Return the fault of certificates or TLS that is behind an outage, empty if there is none."""
        if not isinstance(problem, Outage):
            return ""
        told = str(problem)
        [fault] = await self._concurrency.apply(
            lambda address: tls_faults.fault(address, self._options, told), [connection.address], 1
        )
        return fault


@dataclass(frozen=True)
class _OneServer:
    """Host that is one of several servers, asked once."""

    connection: Connection
    options: Options

    async def config(self, model: str) -> Any:
        """Return a model's configuration."""
        return await self.connection.config(model, timeout_s=min(self.options.request_s, self.options.attempt_s))


def _differences(model: ServedModel, expected: ServedModel) -> Iterator[tuple[str, object, object]]:
    yield from (
        (what, here, there)
        for what, here, there in (
            ("space", model.spec.space, expected.spec.space),
            ("maximum batch", model.max_batch, expected.max_batch),
            ("limits", model.limits, expected.limits),
            ("preprocessing", model.preprocessing, expected.preprocessing),
        )
        if here != there
    )
