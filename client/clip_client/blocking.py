"""Blocking form of methods that are written once, as coroutines.

The coroutines of the SDK wait through objects that they are given. Those of a blocking client wait in place, so its coroutines
never suspend and need no event loop.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
from functools import wraps
from inspect import signature
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

_P = ParamSpec("_P")
_T = TypeVar("_T")


def run(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine that never suspends to its end.

    Raises:
        RuntimeError: it suspends, which is a fault of whoever wrote it.
    """
    try:
        coroutine.send(None)
    except StopIteration as end:
        return cast(_T, end.value)
    coroutine.close()
    raise RuntimeError(f"{coroutine} waits for an event loop: await it in one")


def blocking(method: Callable[Concatenate[Any, _P], Coroutine[Any, Any, _T]]) -> Callable[Concatenate[Any, _P], _T]:
    """Return the blocking form of a coroutine method, for a class whose ``_calls`` has that method."""

    @wraps(method, assigned=("__doc__", "__name__"))
    def call(self: Any, /, *arguments: _P.args, **options: _P.kwargs) -> _T:
        return run(method(self._calls, *arguments, **options))

    return call


def blocking_iterator(
    method: Callable[Concatenate[Any, _P], AsyncIterator[_T]],
) -> Callable[Concatenate[Any, _P], Iterator[_T]]:
    """Return the blocking form of an asynchronous generator method, as :func:`blocking` does."""

    @wraps(method, assigned=("__doc__", "__name__"))
    def call(self: Any, /, *arguments: _P.args, **options: _P.kwargs) -> Iterator[_T]:
        yield from iterated(method(self._calls, *arguments, **options))

    told = signature(method)
    returns = str(told.return_annotation).replace("AsyncIterator", "Iterator")
    call.__signature__ = told.replace(return_annotation=returns)  # type: ignore[attr-defined]  # which help shows
    return call


def iterated(items: AsyncIterator[_T]) -> Iterator[_T]:
    """Iterate over items of a generator that never suspends, and close it at the end."""
    try:
        while True:
            try:
                item = run(_next(items))
            except StopAsyncIteration:
                return
            yield item
    finally:
        if isinstance(items, AsyncGenerator):
            run(items.aclose())


async def _next(items: AsyncIterator[_T]) -> _T:
    return await items.__anext__()
