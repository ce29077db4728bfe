"""Engine of several Tritons: each list goes to the least busy; a server that dies is left out, and tried again."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from clip_client import Clip
from clip_client.clip import Embeddings
from clip_client.errors import ContractMismatch, Timeout, Unavailable
from clip_client.ports import TRITON_ADDRESS
from clip_client.spec import ModelSpec, Tower

_REST_S, _MOST_REST_S = 1.0, 30.0  # of a server that failed, before it is tried again; doubled each time that it fails again
_PROBE_S = 2.0  # bound on the question to it if it is ready
_TIMEOUT_S = 300.0  # of a request: lists of other callers may come first, and a server that hangs is noticed by its connection


@dataclass
class _Server:
    clip: Clip
    address: str
    busy: int = 0  # lists that are with it now
    lists: int = 0  # that it has got
    rests_until: float = 0.0
    failures: int = 0  # in a row
    problem: str = ""
    is_known: bool = False  # its checkpoint was compared


class Servers:
    """Servers of one checkpoint.

    Args:
        addresses: ``host:port`` of each; none for the usual one of this machine.
        name: the checkpoint's, as it was published.
        patience_s: bound on a wait while none of them answers.
    """

    def __init__(self, addresses: Sequence[str], name: str, patience_s: float) -> None:
        distinct = list(dict.fromkeys(addresses or (TRITON_ADDRESS,)))
        self._servers = [_Server(Clip(address, name=name, timeout_s=_TIMEOUT_S), address) for address in distinct]
        self._patience_s, self._changed = patience_s, threading.Condition()
        self._answered, self._is_given_up = time.monotonic(), False
        self._spec = self._first_spec()

    @property
    def spec(self) -> ModelSpec:
        """Spec of the checkpoint."""
        return self._spec

    def embed(self, tower: Tower, items: Sequence[Any]) -> Embeddings:
        """Embed a list on one of the servers; where that fails, on another one.

        Raises:
            Unavailable: none of them answers within the patience.
            ContractMismatch: one of them holds another checkpoint.
        """
        start = time.monotonic()
        while True:
            server = self._taken(start)
            try:
                self._check(server)
                embed = server.clip.embed_image if tower == "image" else server.clip.embed_text
                embeddings = embed(list(items), on_error="none")
                self._answer(server)
                return embeddings
            except (Unavailable, Timeout) as problem:
                self._rest(server, problem)
            finally:
                self._give_back(server)

    def give_up(self) -> None:
        """Have waits for servers end."""
        with self._changed:
            self._is_given_up = True
            self._changed.notify_all()

    def close(self) -> None:
        """Close the connections."""
        for server in self._servers:
            server.clip.close()

    def __enter__(self) -> Servers:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()

    def _first_spec(self) -> ModelSpec:
        """Return the spec of the first server that answers; those that don't are compared with it once they do."""
        reasons, specs = [], list[ModelSpec]()
        for server in self._servers:
            try:
                specs.append(server.clip.spec)
            except (Unavailable, Timeout) as problem:
                reasons.append(str(problem))
                self._rest(server, problem)
                continue
            _check_same(server.address, specs[-1], specs[0])
            server.is_known = True
        if not specs:
            raise Unavailable("; ".join(reasons))
        return specs[0]

    def _check(self, server: _Server) -> None:
        """Compare its checkpoint, the first time and after each failure, since another one may have come up."""
        if server.is_known:
            return
        if server.failures:
            server.clip.wait_ready(timeout_s=_PROBE_S)
        with Clip(server.address, name=server.clip.name, timeout_s=_TIMEOUT_S) as fresh:
            _check_same(server.address, fresh.spec, self._spec)
        server.is_known = True

    def _taken(self, start: float) -> _Server:
        """Wait for a server that isn't resting; return the least busy."""
        with self._changed:
            while True:
                now = time.monotonic()
                silent_s = now - max(start, self._answered)
                if self._is_given_up or silent_s > self._patience_s:
                    reasons = "; ".join(server.problem for server in self._servers if server.problem)
                    raise Unavailable(
                        f"no server answered within {self._patience_s:g} s ({reasons}): start one, then run again"
                    )
                awake = [server for server in self._servers if server.rests_until <= now]
                if awake:
                    server = min(awake, key=lambda server: (server.busy, server.lists))
                    server.busy += 1
                    server.lists += 1
                    return server
                next_s = min(server.rests_until for server in self._servers) - now
                self._changed.wait(max(0.01, min(next_s, self._patience_s - silent_s)))

    def _answer(self, server: _Server) -> None:
        with self._changed:
            self._answered, server.failures, server.problem = time.monotonic(), 0, ""

    def _rest(self, server: _Server, problem: Exception) -> None:
        """Leave a server out for a while; lists that fail together count as one failure."""
        with self._changed:
            now = time.monotonic()
            server.problem, server.is_known = str(problem), False
            if server.rests_until <= now:
                server.rests_until = now + min(_REST_S * 2**server.failures, _MOST_REST_S)
                server.failures += 1

    def _give_back(self, server: _Server) -> None:
        with self._changed:
            server.busy -= 1
            self._changed.notify_all()


def _check_same(address: str, there: ModelSpec, here: ModelSpec) -> None:
    if there.fingerprint != here.fingerprint:
        raise ContractMismatch(
            f"{address} holds {there.fingerprint}, the run is of {here.fingerprint}: name servers of one checkpoint"
        )
