"""Engine of several Tritons: each list goes to the least busy; a server that dies is left out, and tried again."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from clip_client import Clip
from clip_client.clip import Embeddings
from clip_client.errors import ContractMismatch, Timeout, Unavailable
from clip_client.ports import TRITON_ADDRESS
from clip_client.spec import ModelSpec, Tower

_REST_S = 2.0  # of a server that failed, before it is tried again


@dataclass
class _Server:
    clip: Clip
    address: str
    busy: int = 0  # lists that are with it now
    rests_until: float = 0.0
    problem: str = ""
    known: bool = field(default=False)  # its checkpoint was compared


class Servers:
    """Servers of one checkpoint.

    Args:
        addresses: ``host:port`` of each; none for the usual one of this machine.
        name: the checkpoint's, as it was published.
        patience_s: bound on a wait while none of them answers.
    """

    def __init__(self, addresses: Sequence[str], name: str, patience_s: float) -> None:
        distinct = list(dict.fromkeys(addresses or (TRITON_ADDRESS,)))
        self._servers = [_Server(Clip(address, name=name), address) for address in distinct]
        self._patience_s, self._changed = patience_s, threading.Condition()
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
        deadline = time.monotonic() + self._patience_s
        while True:
            server = self._taken(deadline)
            try:
                self._check(server)
                embed = server.clip.embed_image if tower == "image" else server.clip.embed_text
                return embed(list(items), on_error="none")
            except (Unavailable, Timeout) as problem:
                self._rest(server, problem)
            finally:
                self._give_back(server)

    def close(self) -> None:
        """Close the connections."""
        for server in self._servers:
            server.clip.close()

    def __enter__(self) -> Servers:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()

    def _first_spec(self) -> ModelSpec:
        reasons = []
        for server in self._servers:
            try:
                spec = server.clip.spec
            except (Unavailable, Timeout) as problem:
                reasons.append(f"{server.address}: {problem}")
                self._rest(server, problem)
                continue
            server.known = True
            return spec
        raise Unavailable("; ".join(reasons))

    def _check(self, server: _Server) -> None:
        if server.known:
            return
        there = server.clip.spec.fingerprint
        if there != self._spec.fingerprint:
            raise ContractMismatch(
                f"{server.address} holds {there}, others {self._spec.fingerprint}: name servers of one checkpoint"
            )
        server.known = True

    def _taken(self, deadline: float) -> _Server:
        """Wait for a server that isn't resting; return the least busy."""
        with self._changed:
            while True:
                now = time.monotonic()
                awake = [server for server in self._servers if server.rests_until <= now]
                if awake:
                    server = min(awake, key=lambda server: server.busy)
                    server.busy += 1
                    return server
                if now > deadline:
                    reasons = "; ".join(f"{server.address}: {server.problem}" for server in self._servers)
                    raise Unavailable(
                        f"no server answered within {self._patience_s:g} s ({reasons}): start one, then run again"
                    )
                self._changed.wait(max(0.01, min(server.rests_until for server in self._servers) - now))

    def _rest(self, server: _Server, problem: Exception) -> None:
        with self._changed:
            server.rests_until, server.problem = time.monotonic() + _REST_S, str(problem)

    def _give_back(self, server: _Server) -> None:
        with self._changed:
            server.busy -= 1
            self._changed.notify_all()
