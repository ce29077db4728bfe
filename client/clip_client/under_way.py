"""Requests under way beside the reading of a stream: interface, and its form for blocking clients, threads."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor
from typing import Any, Protocol

from clip_client.blocking import run

Work = Callable[[], Coroutine[Any, Any, Any]]


class Running(Protocol):
    """Work that was begun."""

    def done(self) -> bool:
        """Tell if it has ended."""

    def result(self) -> Any:
        """Return the result, or raise the error, of work that has ended."""


class UnderWay(Protocol):
    """Way of a client to have work done meanwhile.

    Attributes:
        on_loop: the work and what is iterated over may suspend.
    """

    on_loop: bool

    def begin(self, work: Work) -> Any:
        """Begin work."""

    async def first(self, running: Sequence[Any]) -> None:
        """Return once some of the work has ended."""

    async def end(self, running: Sequence[Any]) -> None:
        """Cancel work as far as that is possible, and return once it has ended."""


class Threads:
    """A thread for each work, which ends with it: nothing stays behind, wherever the stream is dropped."""

    on_loop = False

    def __init__(self) -> None:
        self._begun: list[tuple[concurrent.futures.Future[Any], ThreadPoolExecutor]] = []

    def begin(self, work: Work) -> concurrent.futures.Future[Any]:
        """Begin work in a thread of its own."""
        self._join(ended=True)
        pool = ThreadPoolExecutor(1, thread_name_prefix="clip_client-stream")
        future = pool.submit(lambda: run(work()))
        self._begun.append((future, pool))
        pool.shutdown(wait=False)
        return future

    async def first(self, running: Sequence[concurrent.futures.Future[Any]]) -> None:
        """Wait in this thread."""
        concurrent.futures.wait(running, return_when=FIRST_COMPLETED)

    async def end(self, running: Sequence[concurrent.futures.Future[Any]]) -> None:
        """Wait for the requests that were sent, and for their threads."""
        self._join(ended=False)

    def _join(self, *, ended: bool) -> None:
        """Wait for the threads of work that has ended, or of all."""
        for future, pool in [*self._begun]:
            if future.done() or not ended:
                pool.shutdown(wait=True)
                self._begun.remove((future, pool))
