"""Turns of several servers: requests go round, a server that failed rests for a while."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

_REST_S, _MOST_REST_S = 0.5, 15.0  # of a server that failed, before a request tries it again; doubled each time that it fails


@dataclass
class _Turn:
    rests_until: float = 0.0
    failures: int = 0  # in a row


class Rota:
    """Turns of servers by their numbers; safe to use from several threads. It waits for nothing and asks nobody."""

    def __init__(self, servers: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._turns = [_Turn() for _ in range(servers)]
        self._next = 0
        self._clock = clock
        self._lock = threading.Lock()

    def order(self) -> list[int]:
        """Return all servers in the order in which a request tries them: those that rest come last.

        A server whose rest is over comes into the turn of one request alone, and rests on for the others until it answers.
        """
        if len(self._turns) == 1:
            return [0]
        with self._lock:
            now, count = self._clock(), len(self._turns)
            turn = [(self._next + n) % count for n in range(count)]
            self._next = (self._next + 1) % count
            awake = [n for n in turn if self._turns[n].rests_until <= now]
            for n in awake[:1]:
                if self._turns[n].failures:
                    self._turns[n].rests_until = now + _rest_s(self._turns[n].failures)
            return awake + sorted(set(turn) - set(awake), key=lambda n: self._turns[n].rests_until)

    def failed(self, server: int) -> None:
        """Let a server rest, longer each time."""
        with self._lock:
            turn = self._turns[server]
            turn.failures += 1
            turn.rests_until = self._clock() + _rest_s(turn.failures)

    def answered(self, server: int) -> None:
        """Have a server take its turns again."""
        turn = self._turns[server]
        if turn.failures:
            with self._lock:
                turn.failures, turn.rests_until = 0, 0.0


def _rest_s(failures: int) -> float:
    return min(_REST_S * 2.0 ** min(failures - 1, 10), _MOST_REST_S)
