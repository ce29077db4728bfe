"""Requests under way beside the reading of a stream: interface, and its form for blocking clients, threads."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor
from contextvars import copy_context
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

    async def first(self, running: Sequence[Any], timeout_s: float | None = None) -> None:
        """Return once some of the work has ended, or the time is up."""

    async def end(self, running: Sequence[Any]) -> None:
        """Cancel work as far as that is possible, and return once it has ended."""


class Threads:
    """Threads of one stream, which end with it.

    They are few and stay: an interrupt while a thread is started would leave it to itself.
    """

    on_loop = False

    def __init__(self, most: int) -> None:
        self._pool = ThreadPoolExecutor(most, thread_name_prefix="clip_client-stream")

    def begin(self, work: Work) -> concurrent.futures.Future[Any]:
        """Begin work in a thread."""
        return self._pool.submit(copy_context().run, lambda: run(work()))

    async def first(self, running: Sequence[concurrent.futures.Future[Any]], timeout_s: float | None = None) -> None:
        """Wait in this thread."""
        concurrent.futures.wait(running, timeout_s, return_when=FIRST_COMPLETED)

    async def end(self, running: Sequence[concurrent.futures.Future[Any]]) -> None:
        """Wait for the requests that were sent, and for the threads."""
        self._pool.shutdown(cancel_futures=True)
