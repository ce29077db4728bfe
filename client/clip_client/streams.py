"""Stream of items through a checkpoint: read ahead a little, several requests under way, results in order.

Written once for both clients, as an asynchronous generator; in the blocking one it never suspends.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from clip_client.comparison import Floats
from clip_client.embedded import Embedded, named
from clip_client.errors import ClipError, Closed, InvalidInput, Unavailable
from clip_client.spec import Tower
from clip_client.stream_books import Books
from clip_client.stream_parts import PART_S, PAUSE, Part
from clip_client.under_way import UnderWay

OnError = Literal["raise", "none"]
Answer = tuple[Floats, dict[int, ClipError]]

_ATTEMPTS = 5
"""Most times that a request is sent again after the server was away: it is ready in between, and goes away again."""
_LET_OUT = 0.25
"""Share of the time that a slow source took for an item, for which the results under way are waited for before the next one."""
_LOOK_S = 0.5  # a stream that was closed stops waiting for a server within this time


@dataclass(frozen=True)
class Door:
    """Needs of a stream that its client fulfils."""

    embed: Callable[[Sequence[Any]], Awaitable[Answer]]  # embeddings [N, D] of a request's items, and errors by position
    most: Callable[[], Awaitable[int]]  # items of one request
    wait_ready: Callable[[float], Awaitable[None]]  # for so many seconds at most, or Unavailable
    under_way: UnderWay
    in_flight: int  # most requests at once
    patience_s: float  # a server that is away is waited for as long


@dataclass
class Stream:
    """One pass over items."""

    tower: Tower
    on_error: OnError
    door: Door
    books: Books
    closed: bool = False

    async def results(self, items: AsyncIterator[Any] | Iterator[Any]) -> AsyncIterator[Embedded]:
        """Yield the result of each item, in order.

        Raises:
            InvalidInput: an item can't be embedded and errors are to be raised, or ``items`` raised something.
            ClipError: as the client's, when the retries are used up.
        """
        pending: deque[tuple[Part, Any]] = deque()
        self.books.open()
        try:
            reader = _Reader(self.tower, items, self.books, await self.door.most())
            while pending or not reader.ended:
                if not reader.ended and self._has_room([running for _, running in pending]):
                    await self._begin(await reader.part(), pending)
                    await self._let_out(reader.waited_s, pending)
                elif not pending[0][1].done():
                    await self.door.under_way.first([running for _, running in pending if not running.done()])
                if pending and pending[0][1].done():
                    for result in self._of_part(*pending.popleft()):
                        yield result
            if reader.problem:
                raise self._of_reading(reader.problem) from reader.problem
        finally:
            self.closed = True
            if isinstance(items, AsyncGenerator):
                await items.aclose()
            await self.door.under_way.end([running for _, running in pending])
            self.books.close()

    def _has_room(self, running: Sequence[Any]) -> bool:
        under_way = sum(not work.done() for work in running)
        return under_way < self.door.in_flight and len(running) < 2 * self.door.in_flight

    async def _begin(self, part: Part, pending: deque[tuple[Part, Any]]) -> None:
        if part.items:
            items, part.items = part.items, []  # given back when they are embedded, not when they come out
            pending.append((part, self.door.under_way.begin(lambda: self._embedded(items))))

    async def _let_out(self, waited_s: float, pending: deque[tuple[Part, Any]]) -> None:
        """Wait a little for the first result if the source is slow: it would come out behind the next item only."""
        if waited_s >= PART_S and pending and not pending[0][1].done():
            await self.door.under_way.first([pending[0][1]], _LET_OUT * waited_s)

    async def _embedded(self, items: Sequence[Any]) -> Answer:
        """Embed the items of a request; send it again, all of it, when the server was away and is back."""
        attempt = 0
        while True:
            try:
                return await self.door.embed(items)
            except Closed:
                raise
            except Unavailable:
                attempt += 1
                if attempt == _ATTEMPTS or not await self._is_back():
                    raise

    async def _is_back(self) -> bool:
        """Wait for the server for as long as the patience lasts and somebody wants the results."""
        deadline = time.monotonic() + self.door.patience_s
        while not self.closed and time.monotonic() < deadline:
            try:
                await self.door.wait_ready(min(_LOOK_S, self.door.patience_s))
                return True
            except Closed:
                return False
            except Unavailable:
                continue
            except Exception:  # the client was closed meanwhile, say: the request's own error says more
                return False
        return False

    def _of_part(self, part: Part, running: Any) -> Iterator[Embedded]:
        try:
            embeddings, errors = running.result()
        except ClipError as problem:
            last = part.first + len(part.sources) - 1
            problem.args = (f"{self.tower}s {part.first} to {last} of the stream: {problem}",)
            raise
        for n, source in enumerate(part.sources):
            position, error = part.first + n, errors.get(n)
            if error and self.on_error == "raise":
                message = named(self.tower, position, source, str(error))
                raise InvalidInput(f"{message}; on_error='none' goes on behind it", errors={position: str(error)}) from error
            result = Embedded(position, source, None if error else embeddings[n], str(error) if error else "")
            self.books.count(result)
            yield result

    def _of_reading(self, problem: Exception) -> InvalidInput:
        reason = f"{type(problem).__name__}: {problem}".rstrip(": ")
        return InvalidInput(
            f"the {self.tower}s ended at position {self.books.read} with an error of their own ({reason}): "
            "the results of those before it came out"
        )


class _Reader:
    """Reader of items into parts; it ends with what is iterated over, or with the error that this raises."""

    def __init__(self, tower: Tower, items: AsyncIterator[Any] | Iterator[Any], books: Books, most: int) -> None:
        self._tower = tower
        self._items = items
        self._books = books
        self._most = most
        self.ended = False
        self.problem: Exception | None = None
        self.waited_s = 0.0  # for the last item

    async def part(self) -> Part:
        """Return the next items, as many as a request takes; fewer, perhaps none, at a pause and at the end."""
        part = Part(self._books.read, are_texts=self._tower == "text")
        while not self.ended and not (part.items and (part.is_full(self._most) or self.waited_s >= PART_S)):
            asked = time.monotonic()
            try:
                item = await anext(self._items) if isinstance(self._items, AsyncIterator) else next(self._items)
            except (StopIteration, StopAsyncIteration):
                self.ended = True
            except Exception as problem:  # whatever the caller's generator raises
                self.ended, self.problem = True, problem
            else:
                self.waited_s = time.monotonic() - asked
                if item is PAUSE:
                    break
                if not part.items:
                    part = Part(self._books.read, are_texts=self._tower == "text")
                self._books.read += 1
                part.add(item)
        return part
