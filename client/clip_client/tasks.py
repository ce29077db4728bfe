"""Several things at once on an event loop: tasks for what is awaited, a few threads for what blocks."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from clip_client.blocking import run
from clip_client.concurrency import LAST_REQUESTS_S
from clip_client.errors import Closed, InvalidInput, Unavailable

_Item = TypeVar("_Item")
_T = TypeVar("_T")

_THREADS = 16  # per client; files and URLs are waited for, not computed


class Tasks:
    """Tasks and threads of one asynchronous client, which belongs to the event loop that it is first used on."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._process = os.getpid()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._shared: dict[str, asyncio.Task[Any]] = {}
        self._requests: set[asyncio.Task[Any]] = set()
        self._closed = False
        self._close: Callable[[], Coroutine[Any, Any, None]] | None = None
        self._life: AsyncGenerator[None, None] | None = None

    def close_at_end(self, close: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Await ``close`` when the loop ends, if it does as asyncio.run lets it end, or when nobody has the client any more."""
        self._close = close

    def check(self) -> None:
        """Refuse use after the end, in a forked process, or on a second loop.

        Raises:
            Unavailable: it is closed, belongs to the process that this one was forked from, or its loop has ended.
            InvalidInput: it belongs to another loop.
        """
        if os.getpid() != self._process:
            raise Unavailable(
                f"{self._owner} belongs to process {self._process}, from which this one was forked: make one here"
            )
        if self._loop is not None and self._loop.is_closed():
            raise Unavailable(f"{self._owner} belongs to an event loop that has ended: make one per loop, in 'async with'")
        self._check_open()
        self._check_loop()
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._life = self._live()
            run(_begun(self._life))

    async def each(self, work: Callable[[_Item], Coroutine[Any, Any, _T]], items: Sequence[_Item], at_once: int) -> list[_T]:
        """Await work for every item in at most ``at_once`` tasks; a failure, or being cancelled, cancels the others."""
        self.check()
        if len(items) <= 1:
            return [await work(item) for item in items]
        results: dict[int, _T] = {}
        numbers = iter(range(len(items)))
        tasks = [asyncio.create_task(_worker(work, items, numbers, results)) for _ in range(min(at_once, len(items)))]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)  # nothing is left behind
        return [results[n] for n in range(len(items))]

    async def apply(self, function: Callable[[_Item], _T], items: Sequence[_Item], at_once: int) -> list[_T]:
        """Call for every item in the client's threads, which bound what is done ``at_once`` for all calls."""
        self.check()
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="clip_client")
        loop, begin = asyncio.get_running_loop(), partial(self._begin, function)
        return await asyncio.gather(*(loop.run_in_executor(self._pool, begin, item) for item in items))

    async def complete(self, request: Coroutine[Any, Any, _T]) -> _T:
        """Await a request in a task of its own, which goes on when the caller is cancelled; the answer is dropped then."""
        task = asyncio.ensure_future(request)
        self._requests.add(task)
        task.add_done_callback(self._requests.discard)
        return await asyncio.shield(task)

    async def once(self, work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """Await work that tasks share while it is under way, with its failure; cancelling one of them doesn't end it."""
        self.check()
        name = work.__name__
        task = self._shared.get(name)
        if task is None:
            task = self._shared[name] = asyncio.create_task(work())
            task.add_done_callback(lambda _: self._forget(name))
        try:
            result: _T = await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():  # by close, and not this caller
                self._check_open()
            raise
        return result

    async def sleep(self, seconds: float) -> None:
        """Wait on the loop."""
        await asyncio.sleep(seconds)

    async def close(self) -> bool:
        """Drop what hasn't begun, and wait for requests; threads end when they have done what they began.

        Returns:
            True if connections can be closed on this loop; false if they were, or went with their loop or process.

        Raises:
            InvalidInput: the client belongs to another loop, which still runs.
        """
        if self._closed or os.getpid() != self._process:
            return False
        self._check_loop()
        self._closed = True
        if self._pool is not None:
            self._pool.shutdown(wait=False)
        if self._loop is not None and self._loop.is_closed():
            return False
        tasks = [*self._shared.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._requests:
            await asyncio.wait(self._requests, timeout=LAST_REQUESTS_S)
        return True

    async def _live(self) -> AsyncGenerator[None, None]:
        """Live as long as the loop, which closes such a generator before it ends, and does so when it is collected."""
        try:
            yield
        finally:
            if self._close is not None:
                await self._close()

    def _begin(self, function: Callable[[_Item], _T], item: _Item) -> _T:
        self._check_open()
        return function(item)

    def _check_loop(self) -> None:
        if self._loop is not None and not self._loop.is_closed() and self._loop is not asyncio.get_running_loop():
            raise InvalidInput(f"{self._owner} belongs to another event loop: make one per loop, or use the blocking client")

    def _check_open(self) -> None:
        if self._closed:
            raise Closed(f"{self._owner} was closed: make a new client")

    def _forget(self, name: str) -> None:
        task = self._shared.pop(name)
        if not task.cancelled():
            task.exception()  # asked for, so that a failure that nobody waits for any longer isn't reported


async def _begun(life: AsyncGenerator[None, None]) -> None:
    await life.__anext__()


async def _worker(
    work: Callable[[_Item], Coroutine[Any, Any, _T]], items: Sequence[_Item], numbers: Iterator[int], results: dict[int, _T]
) -> None:
    for n in numbers:
        results[n] = await work(items[n])
