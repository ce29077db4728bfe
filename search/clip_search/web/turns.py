"""Turns of clients: one that asks for much while others ask gets what they leave, one that asks for too much is refused."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio

from clip_search.errors import TooMany
from clip_search.options import Bounds

_COMPANY_S = 10.0  # a client that asked within this time is there
_LINE = 8  # times as many requests as a client may have at once may wait
_LEAST_S = 0.1  # after which a client in the line gets a turn, whatever others have under way
_LONG_S = 1.0  # after which a request holds nobody in the line back: it may be an index that is built
_PAUSE_S = 1.0  # before a refusal: a client that asks again at once costs a request a second and connection


@dataclass(eq=False)
class _Client:
    """Requests of one client."""

    seen: float = 0.0
    served: float = 0.0  # time of its last turn, or of the end of one
    rested: float = 0.0  # time until which it pauses if it asks for much
    running: int = 0
    fresh: int = 0  # of those, for less than `_LONG_S`
    held_bytes: int = 0  # of bodies that are arriving
    line: deque[asyncio.Future[_Run]] = field(default_factory=deque)
    memory: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def inside(self) -> int:
        return self.running + len(self.line)


@dataclass
class _Run:
    """Request that runs."""

    client: _Client
    began: float
    is_fresh: bool = True
    timer: asyncio.TimerHandle = field(init=False)  # ends that


class Turns:
    """Requests and bytes of each client, on one event loop.

    A client with up to ``bounds.client_requests`` requests never waits here, nor does one that is alone. Of one with more,
    while others ask, as many run at once as half of the cores. They begin while nobody else's is under way, after a pause as
    long as the last one ran; or a tenth of a second after the one before. The rest waits, in the order in which it came.
    """

    def __init__(self, bounds: Bounds, body_disk: int, cores: int | None = None) -> None:
        self._most, self._wait_s = bounds.client_requests, bounds.wait_s
        self._most_bytes = body_disk // 2
        self._share = max(1, (cores or os.cpu_count() or 1) // 2)
        self._clients: dict[str, _Client] = {}
        self._lined = set[_Client]()  # those with a line
        self._fresh = 0
        self._later: asyncio.TimerHandle | None = None

    @property
    def clients(self) -> int:
        """Clients that asked lately."""
        return len(self._clients)

    @property
    def waiting(self) -> int:
        """Requests that wait for their client's turn."""
        return sum(len(client.line) for client in list(self._clients.values()))

    @asynccontextmanager
    async def turn(self, name: str) -> AsyncIterator[None]:
        """Hold a client's request until it may run; raise TooMany for one more than may wait, or if its turn doesn't come."""
        client = self._client(name)
        if client.inside >= self._most * (1 + _LINE):
            await asyncio.sleep(_PAUSE_S)
            raise TooMany(f"{client.inside} requests of this client are here already: send fewer at once")
        run = self._begun(client) if self._may_run(client, client.inside + 1) else await self._wait(client)
        try:
            yield
        finally:
            self._end(run)

    @asynccontextmanager
    async def in_memory_line(self, name: str) -> AsyncIterator[None]:
        """Stand in the line for memory, in which a client stands once: the line goes from client to client."""
        client = self._client(name)
        try:
            with anyio.fail_after(self._wait_s):
                await client.memory.acquire()
        except TimeoutError as problem:
            message = f"no memory for this body within {self._wait_s:g} s, others of this client wait, too: send fewer at once"
            raise TooMany(message) from problem
        try:
            yield
        finally:
            client.memory.release()

    def hold(self, name: str, size: int) -> None:
        """Count bytes of a body that arrives; raise TooMany if one client has half of the room for all."""
        client = self._client(name)
        if size > 0 and client.held_bytes + size > self._most_bytes:
            raise TooMany(f"bodies of this client that are here have {client.held_bytes:,} bytes: send less at once")
        client.held_bytes += size

    def _client(self, name: str) -> _Client:
        now = time.monotonic()
        if name not in self._clients:
            self._forget(now)
            self._clients[name] = _Client()
        client = self._clients[name]
        client.seen = now
        return client

    def _forget(self, now: float) -> None:
        """Forget those that are gone: addresses are many."""
        late = [name for name, each in self._clients.items() if now - each.seen > _COMPANY_S]
        for name in late:
            if not self._clients[name].inside and not self._clients[name].held_bytes:
                del self._clients[name]

    def _may_run(self, client: _Client, inside: int) -> bool:
        if inside <= self._most or self._is_alone(client):
            return True
        now = time.monotonic()
        is_free = (self._fresh == client.fresh and now >= client.rested) or now - client.served >= _LEAST_S
        return is_free and client.running < self._share

    def _next_look(self) -> float:
        """Return the seconds until a client in line may begin, if nothing ends before."""
        now = time.monotonic()
        times = [at for client in self._lined for at in (client.rested, client.served + _LEAST_S) if at > now]
        return min(times, default=now + _LEAST_S) - now

    def _is_alone(self, client: _Client) -> bool:
        now = time.monotonic()
        return all(other is client or now - other.seen > _COMPANY_S for other in self._clients.values())

    async def _wait(self, client: _Client) -> _Run:
        turn: asyncio.Future[_Run] = asyncio.get_running_loop().create_future()
        client.line.append(turn)
        self._lined.add(client)
        self._grant()  # none, or a little later
        try:
            with anyio.fail_after(self._wait_s):
                return await turn
        except BaseException as problem:
            if turn.done() and not turn.cancelled():  # it came at the last moment
                self._end(turn.result())
            elif turn in client.line:
                client.line.remove(turn)
            if isinstance(problem, TimeoutError):
                message = f"no turn within {self._wait_s:g} s, others of this client wait, too: send fewer at once"
                raise TooMany(message) from problem
            raise

    def _begun(self, client: _Client) -> _Run:
        """Count a request that runs from now on."""
        client.running += 1
        client.fresh += 1
        self._fresh += 1
        client.served = time.monotonic()
        run = _Run(client, client.served)
        run.timer = asyncio.get_running_loop().call_later(_LONG_S, self._age, run)
        return run

    def _end(self, run: _Run) -> None:
        run.timer.cancel()
        client, now = run.client, time.monotonic()
        client.served = now
        client.rested = max(client.rested, now + min(now - run.began, _LEAST_S))
        client.running -= 1
        self._age(run)

    def _age(self, run: _Run) -> None:
        """Count a request no longer among those that others wait for."""
        if run.is_fresh:
            run.is_fresh = False
            run.client.fresh -= 1
            self._fresh -= 1
        if self._lined:
            self._grant()

    def _grant(self) -> None:
        """Let requests run that may, of whoever waits longest first; look again a little later if some may not."""
        for client in sorted(self._lined, key=lambda client: client.served):
            while client.line and self._may_run(client, client.inside):
                turn = client.line.popleft()
                if not turn.done():  # whoever waited may be gone
                    turn.set_result(self._begun(client))
            if not client.line:
                self._lined.discard(client)
        if self._later:
            self._later.cancel()
        self._later = asyncio.get_running_loop().call_later(self._next_look(), self._grant) if self._lined else None
