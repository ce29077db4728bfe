"""Budget of bytes that all requests share: a request that doesn't fit waits in line for a bounded time."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager

from clip_search.errors import Busy, TooLarge


class Budget:
    """Bytes that may be taken at once, granted in the order in which they were asked for; safe to use from threads.

    Args:
        purpose: names the budget in messages.
        total: bytes there are.
        wait_s: how long somebody waits for them.
    """

    def __init__(self, purpose: str, total: int, wait_s: float) -> None:
        self._purpose, self._total, self._wait_s = purpose, total, wait_s
        self._lock = threading.Lock()
        self._free, self.refused = total, 0
        self._line: deque[tuple[int, Future[None]]] = deque()

    @property
    def taken(self) -> int:
        """Bytes that are taken now."""
        return self._total - self._free

    @property
    def total(self) -> int:
        """Bytes there are."""
        return self._total

    @property
    def waiting(self) -> int:
        """Requests in line."""
        return len(self._line)

    def take(self, size: int) -> None:
        """Take bytes, in a thread that may wait; raise TooLarge if there are never so many, Busy if none come free."""
        asked = self._ask(size)
        wait([asked], self._wait_s)
        if asked.cancel():
            raise self._busy(size)

    async def take_soon(self, size: int) -> None:
        """Take bytes without a thread; raises as :meth:`take`."""
        asked = self._ask(size)
        if asked.done():
            return
        try:
            await asyncio.wait([asyncio.wrap_future(asked)], timeout=self._wait_s)
        except asyncio.CancelledError:
            if not asked.cancel():
                self.give_back(size)
            raise
        if asked.cancel():
            raise self._busy(size)

    @contextmanager
    def held(self, size: int) -> Iterator[None]:
        """Bytes for as long as a block lasts; raises as :meth:`take`."""
        self.take(size)
        try:
            yield
        finally:
            self.give_back(size)

    def give_back(self, size: int) -> None:
        """Return bytes to the budget; the next request in line gets them."""
        with self._lock:
            self._free += size
            self._grant()

    def _ask(self, size: int) -> Future[None]:
        if size > self._total:
            raise TooLarge(f"{self._purpose} would take {size:,} bytes of memory, there are {self._total:,}: send less at once")
        asked: Future[None] = Future()
        with self._lock:
            self._line.append((size, asked))
            self._grant()
        return asked

    def _grant(self) -> None:
        """Serve the line from its front; a large request isn't overtaken by small ones for ever."""
        while self._line and (self._line[0][0] <= self._free or self._line[0][1].cancelled()):
            size, asked = self._line.popleft()
            if asked.set_running_or_notify_cancel():
                self._free -= size
                asked.set_result(None)

    def _busy(self, size: int) -> Busy:
        with self._lock:
            self.refused += 1
            self._grant()  # what stood behind may fit
        return Busy(
            f"{self._purpose} takes {size:,} bytes, {self._free:,} of {self._total:,} are free and no more came free within "
            f"{self._wait_s:g} s: try again in a moment, or send less at once"
        )


class Share:
    """Share of a budget that one piece of work takes bit by bit, perhaps in several threads, and returns at its end."""

    def __init__(self, budget: Budget) -> None:
        self._budget, self._lock, self._size = budget, threading.Lock(), 0

    def take(self, size: int) -> None:
        """Take more; raises as :meth:`Budget.take`."""
        self._budget.take(size)
        with self._lock:
            self._size += size

    def give_back(self, size: int) -> None:
        """Return a part of the share before the end."""
        with self._lock:
            self._size -= size
        self._budget.give_back(size)

    def __enter__(self) -> Share:
        return self

    def __exit__(self, *problem: object) -> None:
        self.give_back(self._size)
