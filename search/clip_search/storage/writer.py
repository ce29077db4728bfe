"""Group commit: changes that arrive during a commit share the next one."""

import logging
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

from clip_client.errors import ClipError, ContractMismatch, InvalidInput, Unavailable
from clip_search.errors import Moved, cleaned
from clip_search.storage.rows import NewRow, OnConflict

_LOG = logging.getLogger(__name__)
GROUP_ROWS = 10_000  # rows at which a group is closed


@dataclass(eq=False)
class Operation:
    """Change whose caller waits for its outcome, which is set once."""

    is_change: ClassVar[bool] = True
    future: Future[Any] = field(default_factory=Future, kw_only=True)

    def begin(self) -> bool:
        """Tell if it wasn't cancelled; from here on it can't be."""
        return self.future.set_running_or_notify_cancel()

    def end(self, outcome: Any) -> None:
        """Set the outcome, a result or an error; log an error that isn't the caller's fault."""
        if self.future.done():
            return
        if not isinstance(outcome, BaseException):
            self.future.set_result(outcome)
            return
        if self.is_change and not isinstance(outcome, InvalidInput | ContractMismatch | Moved):
            _LOG.error("a change failed", exc_info=outcome)
        explained = Unavailable(f"the change failed ({cleaned(outcome)}): the log says more")
        self.future.set_exception(outcome if isinstance(outcome, ClipError) else explained)


@dataclass(eq=False)
class Add(Operation):
    """Addition of rows, all or none if one conflicts; its future gives an :class:`Added`."""

    rows: Sequence[NewRow]
    on_conflict: OnConflict
    fingerprint: str
    columns: Mapping[str, str] = field(default_factory=dict)  # declared kinds of columns that aren't there yet


@dataclass(eq=False)
class Delete(Operation):
    """Deletion of rows by ids or by a filter; its future gives their number."""

    ids: Sequence[str] = ()
    where: str = ""


@dataclass(eq=False)
class Follow(Operation):
    """Look for what another process has committed; its future gives 1 if there was anything, else 0."""

    is_change: ClassVar[bool] = False


@dataclass(eq=False)
class Alone(Operation):
    """Work during which nothing is changed; its future gives what that returns."""

    is_change: ClassVar[bool] = False
    work: Callable[[], Any]


@dataclass(frozen=True)
class Added:
    """Outcome of an :class:`Add`: numbers of rows, ids in the table, and by id the reason of each refused row."""

    added: int
    replaced: int
    skipped: int
    ids: list[str]
    refused: Mapping[str, str] = field(default_factory=dict)


class Writer:
    """Thread that makes all changes of a collection."""

    def __init__(self, commit: Callable[[list[Operation]], None], name: str) -> None:
        self._commit = commit
        self._waiting: queue.SimpleQueue[Operation | None] = queue.SimpleQueue()
        self._lock = threading.Lock()  # nothing is queued after what stops the thread
        self._coming = 0
        self._closed: ClipError | None = None
        self._thread = threading.Thread(target=self._work, name=f"writer of {name}", daemon=True)
        self._thread.start()

    def submit(self, operation: Operation) -> Future[Any]:
        """Queue an operation; its future ends once it is durable and visible, or failed. Raise the error of :meth:`close`."""
        with self._lock:
            if self._closed:
                raise type(self._closed)(str(self._closed))
            if not self.alive:
                raise Unavailable("the collection's writer has stopped: start the sidecar again")
            self._waiting.put(operation)
        return operation.future

    @contextmanager
    def coming(self) -> Iterator[None]:
        """Announce a change while its rows still arrive or are embedded."""
        with self._lock:
            self._coming += 1
        try:
            yield
        finally:
            with self._lock:
                self._coming -= 1

    @property
    def expects(self) -> bool:
        """True while a change is announced."""
        return self._coming > 0

    def look_again(self) -> Future[Any]:
        """Let the table be read, as before any change."""
        return self.submit(Delete())

    @property
    def waiting(self) -> int:
        """Operations in line."""
        return self._waiting.qsize()

    @property
    def alive(self) -> bool:
        """True while it works."""
        return self._thread.is_alive()

    def close(self, why: ClipError, patience_s: float | None = None) -> None:
        """Finish queued changes, within ``patience_s`` if that is given, then stop; later ones raise ``why``."""
        with self._lock:
            if not self._closed:
                self._closed = why
                self._waiting.put(None)
        self._thread.join(patience_s)

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
