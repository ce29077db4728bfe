"""Group commit: what arrives while a commit is under way goes into the next one together."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from clip_client.errors import ClipError, ContractMismatch, InvalidInput, Unavailable
from clip_search.errors import cleaned
from clip_search.storage.rows import NewRow, OnConflict

_LOG = logging.getLogger(__name__)
GROUP_ROWS = 10_000
"""A group is closed at so many rows."""


@dataclass(eq=False)
class Operation:
    """A change that somebody waits for; its outcome is set once."""

    done: Future[Any] = field(default_factory=Future, kw_only=True)

    def begin(self) -> bool:
        """Return whether it is still wanted; from here on it can't be cancelled."""
        return self.done.set_running_or_notify_cancel()

    def end(self, outcome: Any) -> None:
        """Tell who waits what came out: a result, or an error; what isn't the caller's fault goes into the log."""
        if self.done.done():
            return
        if not isinstance(outcome, BaseException):
            self.done.set_result(outcome)
            return
        if not isinstance(outcome, InvalidInput | ContractMismatch):
            _LOG.error("a change failed", exc_info=outcome)
        self.done.set_exception(outcome if isinstance(outcome, ClipError) else _explained(outcome))


@dataclass(eq=False)
class Add(Operation):
    """Rows to be added, all or none of those that conflict; its future gives an :class:`Added`.

    Attributes:
        columns: declared kinds of columns that aren't there yet.
    """

    rows: Sequence[NewRow]
    on_conflict: OnConflict
    fingerprint: str
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(eq=False)
class Delete(Operation):
    """Ids, or a filter, of rows to be deleted; its future gives their number."""

    ids: Sequence[str] = ()
    where: str = ""


@dataclass(frozen=True)
class Added:
    """Outcome of an :class:`Add`: numbers of rows, the ids of all that are there, and by id why others aren't."""

    added: int
    replaced: int
    skipped: int
    ids: list[str]
    refused: Mapping[str, str] = field(default_factory=dict)


class Writer:
    """The one thread that changes a collection."""

    def __init__(self, commit: Callable[[list[Operation]], None], name: str) -> None:
        self._commit = commit
        self._waiting: queue.SimpleQueue[Operation | None] = queue.SimpleQueue()
        self._lock = threading.Lock()  # nothing is queued after what stops the thread
        self._closed: ClipError | None = None
        self._thread = threading.Thread(target=self._work, name=f"writer of {name}", daemon=True)
        self._thread.start()

    def submit(self, operation: Operation) -> Future[Any]:
        """Queue an operation; its future is done once it is durable and visible, or has failed.

        Raises:
            ClipError: what :meth:`close` was given.
        """
        with self._lock:
            if self._closed:
                raise type(self._closed)(str(self._closed))
            if not self.alive:
                raise Unavailable("the collection's writer has stopped: start the sidecar again")
            self._waiting.put(operation)
        return operation.done

    def look_again(self) -> Future[Any]:
        """Let the table be read, as before any change."""
        return self.submit(Delete())

    @property
    def alive(self) -> bool:
        """True while it works."""
        return self._thread.is_alive()

    def close(self, why: ClipError) -> None:
        """Finish what waits, then stop; who comes later gets ``why``."""
        with self._lock:
            if not self._closed:
                self._closed = why
                self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        go_on = True
        while go_on and (first := self._waiting.get()):
            group, go_on = self._group(first)
            group = [operation for operation in group if operation.begin()]
            problem: BaseException = RuntimeError("a change was passed over")
            try:
                self._commit(group)
            except BaseException as raised:  # whatever happens, the thread goes on
                problem = raised
            for operation in group:  # and nobody waits for ever
                operation.end(problem)

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


def _explained(problem: BaseException) -> ClipError:
    return Unavailable(f"the change failed ({cleaned(problem)}): the log says more")
