"""Threads set apart for what may stand still, so that searches by vector and the health routes never wait behind it."""

from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.to_thread

from clip_search.errors import Busy

_Out = TypeVar("_Out")


class Pool:
    """Threads and a line before them, both bounded; of one event loop.

    Args:
        purpose: names the pool in messages.
        threads: calls that run at once.
        waiting: further calls that may wait for a thread.
        wait_s: longest wait.
    """

    def __init__(self, purpose: str, threads: int, waiting: int, wait_s: float) -> None:
        self._purpose = purpose
        self._limiter = anyio.CapacityLimiter(threads)
        self._free = anyio.Semaphore(threads)
        self._most, self._wait_s = threads + waiting, wait_s
        self._inside, self.running, self.refused = 0, 0, 0  # the last since the start
        self.threads = threads

    async def run(self, work: Callable[..., _Out], *arguments: object) -> _Out:
        """Call in a thread of the pool; raise Busy if the line is full, or no thread comes free in time."""
        if self._inside >= self._most:
            self.refused += 1
            raise Busy(
                f"{self._inside} requests wait for {self._purpose} already, at most {self._most} may: try again in a moment"
            )
        self._inside += 1
        try:
            await self._enter()
            self.running += 1
            try:
                return await anyio.to_thread.run_sync(work, *arguments, limiter=self._limiter)
            finally:
                self.running -= 1
                self._free.release()
        finally:
            self._inside -= 1

    @property
    def waiting(self) -> int:
        """Calls that wait for a thread."""
        return max(0, self._inside - self.running)

    @property
    def line(self) -> int:
        """Calls that may wait."""
        return self._most - self.threads

    async def _enter(self) -> None:
        try:
            with anyio.fail_after(self._wait_s):
                await self._free.acquire()
        except TimeoutError as problem:
            self.refused += 1
            message = f"no turn within {self._wait_s:g} s, too many wait for {self._purpose}: try again in a moment"
            raise Busy(message) from problem
