"""Steps of a request and their times, from whatever thread works for it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

Name = Literal["read", "parse", "embed", "search", "rows", "write", "send"]
"""Names: the body arrives; it is understood; vectors are made; the index is searched; rows are looked up and written as JSON;
rows are stored; the answer leaves."""


class Steps:
    """Steps of one request: name, start and end in seconds of ``time.perf_counter``."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, float, float]] = []
        self._open: set[str] = set()

    @contextmanager
    def timed(self, name: Name) -> Iterator[None]:
        """Note a step; one within a step of its own name isn't counted twice."""
        if name in self._open:
            yield
            return
        self._open.add(name)
        start = time.perf_counter()
        try:
            yield
        finally:
            self._open.discard(name)
            self.taken.append((name, start, time.perf_counter()))

    def seconds(self) -> dict[str, float]:
        """Return the time of each step in the order of their first ends."""
        totals: dict[str, float] = {}
        for name, start, end in self.taken:
            totals[name] = totals.get(name, 0.0) + end - start
        return totals


_CURRENT: ContextVar[Steps | None] = ContextVar("clip_search_steps", default=None)


def begin() -> Steps:
    """Begin the steps of a request, in its task and the threads that work for it."""
    steps = Steps()
    _CURRENT.set(steps)
    return steps


@contextmanager
def step(name: Name) -> Iterator[None]:
    """Note a step of the request that this code runs for, if it runs for one."""
    steps = _CURRENT.get()
    if steps is None:
        yield
    else:
        with steps.timed(name):
            yield
