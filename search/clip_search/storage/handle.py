"""LanceDB's handle of a table: every call through it ends with a result or with one of our errors."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any, TypeVar

import pyarrow as pa

from clip_client.errors import ClipError, InvalidInput, Timeout, Unavailable
from clip_search.errors import NotFound, StorageFull, cleaned, is_filter_problem, storage_problem
from clip_search.storage.deletion_files import DeletionFiles
from clip_search.storage.version_readers import Readers

_Out = TypeVar("_Out")
_OVERTAKEN = "Too many concurrent writers"  # LanceDB's words
_SPOILED = "the disk was full for a moment, nothing was deleted or replaced: make room; searches go on"
FILTER_TIME = timedelta(seconds=20)  # bound on the scan of a client's filter


class Handle:
    """LanceDB table that may be dropped while it is used.

    Whatever LanceDB raises, panics of its Rust code among it (which aren't Exceptions), becomes one of: NotFound once the
    table was dropped, InvalidInput for a filter that can't be used, else Unavailable or StorageFull.

    Args:
        table: LanceDB's own handle.
        may_write: raises before each write that mustn't be done.
        reopen: gives a fresh handle, with nothing in its caches.
        deletions: files of a table in a folder that say which rows are gone.
    """

    def __init__(
        self,
        table: Any,
        may_write: Callable[[], None],
        reopen: Callable[[], Any] | None,
        deletions: DeletionFiles | None = None,
    ) -> None:
        self.raw = table  # LanceDB's own handle
        self._deletions = deletions
        self.readers = Readers()  # that go on
        self._may_write, self._reopen = may_write, reopen
        self._dropped = False

    def ask(self, ask: Callable[[], _Out]) -> _Out:
        """Read something through LanceDB."""
        return self._call(ask, "read")

    def write(self, write: Callable[[], Any], others: AbstractContextManager[Any] | None = None) -> None:
        """Change the table, if that is allowed.

        Args:
            others: lock that others hold while they write. LanceDB gives a change up which they have overtaken for 30 s, as
                they can on a busy machine; it is made once more, alone.
        """
        self._may_write()
        if self._dropped:
            raise self._gone()
        with self.readers.writing():
            try:
                self._call(write, "written")
            except Unavailable as problem:
                if others is None or _OVERTAKEN not in str(problem.__cause__):
                    raise
                with others:
                    self._call(write, "written")

    def hide(self, write: Callable[[], Any], others: AbstractContextManager[Any]) -> None:
        """Change the table by deleting or replacing rows; otherwise as :meth:`write`.

        Raises:
            StorageFull: the disk is full, or was so; none of it is done then.
        """
        if self._deletions is None:
            return self.write(write, others)
        self._deletions.check_room()
        self.write(write, others)
        if torn := self._deletions.torn():
            with others:
                self.ask(self.raw.checkout_latest)
                if self._deletions.take_back(int(self.raw.version), torn):
                    self.renew()
                    raise StorageFull(_SPOILED)

    def scan(
        self, columns: Sequence[str], where: str | None, rows: int, time: timedelta | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Read columns of the rows that a filter of our own keeps, ``rows`` at a time."""
        with self.readers.reading():
            query = self.raw.search().select(list(columns)).limit(None)
            batches = self.ask(lambda: iter((query.where(where) if where else query).to_batches(rows, timeout=time)))
            while (batch := self.ask(lambda: next(batches, None))) is not None:
                yield batch

    def ask_filtered(self, read: Callable[[], _Out], where: str) -> _Out:
        """Read through a client's filter, which was checked; only a fault of the filter itself is the client's.

        Raises:
            InvalidInput: the filter can't be planned or applied.
            Timeout: it takes too long.
            NotFound, Unavailable, StorageFull: the table can't be read.
        """
        try:
            return read()
        except ClipError as problem:
            raw = problem.__cause__
            if where and "Query timeout after" in str(raw):
                raise Timeout(f"the filter took longer than {FILTER_TIME.seconds} s: make it simpler") from raw
            if where and raw and (is_filter_problem(raw) or self._refuses(where)):
                raise InvalidInput(f"filter: {cleaned(raw)}") from raw
            raise

    def renew(self) -> None:
        """Take a fresh handle: LanceDB's caches keep something of each version for good."""
        if self._reopen:
            self.raw = self.ask(self._reopen)

    def drop(self, drop: Callable[[], None]) -> None:
        """Remove the table by ``drop``; from now on it isn't there, also for callers that hold it.

        LanceDB would make the folder of a table anew for whatever is written into it later.
        """
        self._dropped = True
        try:
            drop()
        except BaseException:
            self._dropped = False
            raise

    def _refuses(self, where: str) -> bool:
        """Tell if a plan with this filter fails, and one without doesn't; no data is read for it."""
        plain = self.raw.search().select(["row"]).limit(None)
        try:
            plain.explain_plan()
        except Exception:  # LanceDB raises anything
            return False
        try:
            self.raw.search().select(["row"]).limit(None).where(where).explain_plan()
        except Exception as problem:  # LanceDB raises anything
            return not self._dropped and "os error" not in str(problem)
        return False

    def _call(self, call: Callable[[], _Out], verb: str) -> _Out:
        try:
            with self.readers.reading():
                return call()
        except ClipError:
            raise
        except BaseException as problem:
            raise (self._gone() if self._dropped else storage_problem(problem, verb)) from problem

    def _gone(self) -> NotFound:
        return NotFound(f"collection {self.raw.name} was dropped: there is nothing left of it")
