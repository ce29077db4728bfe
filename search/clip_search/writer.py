"""Group commit: what arrives while a commit is under way goes into the next one together."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from clip_client.errors import ClipError, Unavailable
from clip_search.rows import NewRow, OnConflict

GROUP_ROWS = 10_000
"""A group is closed at so many rows."""


@dataclass(eq=False)
class Add:
    """Rows to be added, all or none of those that conflict; its future gives an :class:`Added`.

    Attributes:
        columns: declared kinds of columns that aren't there yet.
    """

    rows: Sequence[NewRow]
    on_conflict: OnConflict
    fingerprint: str
    columns: Mapping[str, str] = field(default_factory=dict)
    done: Future[Any] = field(default_factory=Future)


@dataclass(eq=False)
class Delete:
    """Ids, or a filter, of rows to be deleted; its future gives their number."""

    ids: Sequence[str] = ()
    where: str = ""
    done: Future[Any] = field(default_factory=Future)


@dataclass(frozen=True)
class Added:
    """What became of an :class:`Add`: numbers of rows, the ids of all that are there, and by id why others aren't."""

    added: int
    replaced: int
    skipped: int
    ids: list[str]
    refused: Mapping[str, str] = field(default_factory=dict)


Operation = Add | Delete


class Writer:
    """The one thread that changes a collection."""

    def __init__(self, commit: Callable[[list[Operation]], None], name: str) -> None:
        self._commit = commit
        self._waiting: queue.SimpleQueue[Operation | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=f"writer of {name}", daemon=True)
        self._thread.start()

    def submit(self, operation: Operation) -> Future[Any]:
        """Queue an operation; its future is done once it is durable and visible, or has failed."""
        if not self.alive:
            raise Unavailable("the collection's writer has stopped: start the sidecar again")
        self._waiting.put(operation)
        return operation.done

    @property
    def alive(self) -> bool:
        """Whether it goes on working."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Finish what waits, then stop."""
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        while first := self._waiting.get():
            group, go_on = self._group(first)
            try:
                self._commit(group)
            except Exception as problem:  # whatever happens, nobody waits for ever
                _fail(group, problem)
            if not go_on:
                return

    def _group(self, first: Operation) -> tuple[list[Operation], bool]:
        group, rows = [first], _rows(first)
        while rows < GROUP_ROWS and not self._waiting.empty():
            following = self._waiting.get()
            if following is None:
                return group, False
            group.append(following)
            rows += _rows(following)
        return group, True


def _rows(operation: Operation) -> int:
    return len(operation.rows) if isinstance(operation, Add) else 1


def _fail(group: Sequence[Operation], problem: Exception) -> None:
    error = problem if isinstance(problem, ClipError) else Unavailable(f"the change failed ({problem!r}): the log says more")
    for operation in group:
        if not operation.done.done():
            operation.done.set_exception(error)
