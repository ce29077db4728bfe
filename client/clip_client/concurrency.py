"""Several things at once: interface for the coroutines of the SDK, and its form for blocking clients, threads."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, Protocol, TypeVar

from clip_client.blocking import run
from clip_client.errors import Closed, Unavailable

_Item = TypeVar("_Item")
_T = TypeVar("_T")

LAST_REQUESTS_S = 5.0
"""Longest wait for requests that are under way when a client is closed: a batch takes less, and a server that hangs is left."""


class Concurrency(Protocol):
    """Ways of a client to wait, and to do several things at once."""

    def close_at_end(self, close: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Have the client closed by ``close`` where it can't outlast what it runs on."""

    def check(self) -> None:
        """Raise Unavailable or InvalidInput where the client can't be used: after its end, or elsewhere than it began."""

    async def each(self, work: Callable[[_Item], Coroutine[Any, Any, _T]], items: Sequence[_Item], at_once: int) -> list[_T]:
        """Await work for every item, some at once; results in order. After a failure, which is raised, no more is begun."""

    async def apply(self, function: Callable[[_Item], _T], items: Sequence[_Item], at_once: int) -> list[_T]:
        """Call a function that blocks for every item, some at once; results in order, or the first exception."""

    async def complete(self, request: Coroutine[Any, Any, _T]) -> _T:
        """Await a request that goes on to its end, whoever stops waiting for it: Triton mustn't see it cancelled."""

    async def once(self, work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """Await work whose outcome tasks that want it at the same time may share."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""

    async def close(self) -> bool:
        """Drop work that hasn't begun, wait for requests; return true if connections are there to be closed, too."""


class Threads:
    """Threads that last for a call; nothing that is awaited suspends."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._requests: set[object] = set()  # without a lock, which a process that is forked meanwhile would never get
        self._closed = False

    def close_at_end(self, close: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do nothing: the process is all that it runs on."""

    def check(self) -> None:
        """Raise Unavailable after the end; any thread may use a blocking client."""
        if self._closed:
            raise Closed("the client was closed: make a new client")

    async def each(self, work: Callable[[_Item], Coroutine[Any, Any, _T]], items: Sequence[_Item], at_once: int) -> list[_T]:
        """Await work for every item, each in a thread where there are several."""
        if len(items) == 1:
            return [await work(items[0])]
        failed = threading.Event()

        def begin(item: _Item) -> _T:
            if failed.is_set():  # what failed comes before it, and is the error that is raised
                raise Unavailable("given up after another request failed")
            try:
                return run(work(item))
            except BaseException:
                failed.set()
                raise

        return await self.apply(begin, items, at_once)

    async def apply(self, function: Callable[[_Item], _T], items: Sequence[_Item], at_once: int) -> list[_T]:
        """Call for every item, in threads where there are several."""
        if len(items) <= 1:
            return [function(item) for item in items]
        with ThreadPoolExecutor(min(at_once, len(items))) as pool:
            contexts = [copy_context() for _ in items]  # threads go on with the request's ids
            return list(pool.map(lambda context, item: context.run(function, item), contexts, items))

    async def complete(self, request: Coroutine[Any, Any, _T]) -> _T:
        """Await a request, and know of it meanwhile."""
        mark = object()
        self._requests.add(mark)
        try:
            return await request
        finally:
            self._requests.discard(mark)

    async def once(self, work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """Do the work: a thread that waited for another's would wait for its failure, too, and then for its own."""
        return await work()

    async def sleep(self, seconds: float) -> None:
        """Wait in this thread."""
        time.sleep(seconds)

    async def close(self) -> bool:
        """Wait for the requests of other threads, a while; return true."""
        self._closed = True
        deadline = time.monotonic() + LAST_REQUESTS_S
        while self._requests and os.getpid() == self._process and time.monotonic() < deadline:
            time.sleep(0.01)
        return True
