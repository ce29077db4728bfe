"""Iterators that ``embed_images`` and ``embed_texts`` return."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any, Generic, TypeVar

from clip_client.blocking import iterated
from clip_client.stream_books import Books

_T = TypeVar("_T")


class ItemStream(Iterator[_T], Generic[_T]):
    """Iterator over the results of a blocking client, in order; to be closed if it isn't read to its end.

    A loop that is left closes it, too; so does ``with``. It leaves no thread behind: requests that were sent are waited for.
    Several threads may read it, each result going to one of them.

    Attributes:
        books: counts of what was read, embedded and left out so far.
    """

    def __init__(self, results: AsyncIterator[_T], books: Books) -> None:
        self.books = books
        self._results = iterated(results)
        self._turn = threading.RLock()  # which a source that reads its own stream passes, to Python's error

    def __next__(self) -> _T:
        with self._turn:
            return next(self._results)

    def close(self) -> None:
        """Stop reading, and wait for the requests that are under way."""
        self._results.close()  # type: ignore[attr-defined]  # a generator

    def __enter__(self) -> ItemStream[_T]:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<stream: {self.books!r}>"


class AsyncItemStream(AsyncIterator[_T], Generic[_T]):
    """Iterator over the results of an asynchronous client, in order; ``async with``, or ``aclose``, ends it early.

    Several tasks may read it, each result going to one of them.

    Attributes:
        books: counts of what was read, embedded and left out so far.
    """

    def __init__(self, results: AsyncIterator[_T], books: Books) -> None:
        self.books = books
        self._results = results
        self._lock: Any = None

    async def __anext__(self) -> _T:
        async with self._turn():
            return await anext(self._results)

    async def aclose(self) -> None:
        """Stop reading, and wait for the requests that are under way; those that take longer than 2 s are cancelled."""
        await self._results.aclose()  # type: ignore[attr-defined]  # a generator

    def _turn(self) -> Any:
        if self._lock is None:
            from asyncio import Lock  # loaded for event loops alone

            self._lock = Lock()
        return self._lock

    async def __aenter__(self) -> AsyncItemStream[_T]:
        return self

    async def __aexit__(self, *problem: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<stream: {self.books!r}>"
