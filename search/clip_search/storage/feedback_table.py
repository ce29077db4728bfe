"""Feedback of a collection: events in a LanceDB table of their own, bounded, beside the tables of the collections."""

import logging
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import pyarrow as pa

from clip_search.errors import NotFound, ReadOnly, storage_problem
from clip_search.storage import feedback_events
from clip_search.storage.feedback_events import COLUMNS, KINDS, Event

_LOG = logging.getLogger(__name__)

MOST_EVENTS, MOST_BYTES = 100_000, 64 * 2**20  # of a collection; beyond them the oldest go
_KEPT = 0.9  # share that stays then, so that not every event rewrites the table
_COMMITS = 200  # commits between two compactions: LanceDB keeps a file of each


@dataclass
class _Waiting:
    event: Event
    number: int = -1
    problem: BaseException | None = None


class FeedbackTable:
    """Events of one collection, in the order of their numbers; safe to use from several threads.

    Events that arrive during a commit are written with the next one. The table is made with the first of them; one that belongs
    to an earlier collection of the same name counts as none.

    Args:
        name: of the collection.
        owner: identity of the collection's table.
        connect: opens the database of all feedback; None from it if there is none yet. ``make`` lets it be made.
        may_write: raises before each write that mustn't be done.
        read_only: it is another sidecar's: it is read anew each time.
    """

    def __init__(
        self,
        name: str,
        owner: str,
        connect: Callable[[bool], Any],
        may_write: Callable[[], None],
        *,
        read_only: bool = False,
    ) -> None:
        self._name, self._owner, self._connect = name, owner, connect
        self._may_write, self._read_only = may_write, read_only
        self._lock, self._arriving = threading.RLock(), threading.Lock()
        self._waiting: list[_Waiting] = []
        self._table: Any = None
        self._sizes: dict[int, int] = {}  # number → bytes, ascending
        self._is_read = self._is_dropped = False
        self._next = self._commits = 0
        self.taken: dict[str, int] = dict.fromkeys(KINDS, 0)  # since this process began, as the following
        self.made_room = self.deleted = 0

    def append(self, event: Event) -> int:
        """Add an event; return its number once it is durable.

        Raises:
            NotFound: the collection was dropped.
            ReadOnly, Unavailable, StorageFull: it can't be written.
        """
        mine = _Waiting(event)
        with self._arriving:
            self._waiting.append(mine)
        with self._lock:
            if mine.number < 0 and mine.problem is None:
                with self._arriving:
                    batch, self._waiting = self._waiting, []
                self._write(batch)
        if mine.problem:
            raise mine.problem
        return mine.number

    def page(self, after: int, limit: int) -> list[dict[str, Any]]:
        """Return the first events behind a number, at most ``limit``, by number; raise Unavailable if they can't be read."""
        with self._lock:
            numbers = [number for number in self._read() if number > after][:limit]
            if not numbers:
                return []
            where = f"number > {after} AND number <= {numbers[-1]}"
            events: list[dict[str, Any]] = self._asked(lambda: self._scan(COLUMNS, where).to_pylist(), "read")
            return events

    def books(self) -> dict[str, int]:
        """Return the number of events, the bytes of their content, and the counts since this process began."""
        with self._lock:
            sizes = self._read()
            counts = {"taken": sum(self.taken.values()), "made_room": self.made_room, "deleted": self.deleted}
            return {"events": len(sizes), "bytes": sum(sizes.values()), **counts}

    @property
    def last_known(self) -> int:
        """Number of events when somebody last looked; nobody waits for it."""
        return len(self._sizes)

    def counts(self) -> dict[str, int]:
        """Return what came since this process began, by kind, and what went."""
        return {**self.taken, "made_room": self.made_room, "deleted": self.deleted}

    def delete(self, before: datetime | None = None) -> int:
        """Delete the events before a time (UTC unless it says), or all; return their number once they are off the disk.

        Raises:
            ReadOnly, Unavailable, StorageFull: they can't be removed.
        """
        with self._lock:
            self._check()
            numbers = self._read()
            kept: set[int] = set() if before is None else self._since(before)
            gone = len(numbers) - len(kept)
            if gone:
                self._keep(kept)
                self.deleted += gone
            if self._table is not None:  # also what an earlier deletion left that was killed
                self._asked(self._compact, "removed")
            return gone

    def drop(self) -> None:
        """Remove everything for good, with the collection; later events are refused."""
        with self._lock:
            self._is_dropped = True
            try:
                self._drop()
            except BaseException:
                self._is_dropped = False
                raise

    def _write(self, batch: Sequence[_Waiting]) -> None:
        """Write events in one commit; note the outcome in each."""
        try:
            self._check()
            self._read()
            self._make_room(batch)
            self._asked(lambda: self._add(batch), "written")
        except BaseException as problem:
            self._forget()  # the outcome of a commit that failed isn't known
            for entry in batch:
                entry.number, entry.problem = -1, problem
            return
        for entry in batch:
            self.taken[entry.event.kind] += 1
        self._commits += 1
        if self._commits % _COMMITS == 0:
            self._tidy()

    def _add(self, batch: Sequence[_Waiting]) -> None:
        if self._table is None:
            database = self._connect(True)
            schema = feedback_events.schema(self._owner)
            self._table = database.create_table(self._name, schema=schema, mode="overwrite")
        schema = self._table.schema
        salt = feedback_events.salt(schema)
        now = datetime.fromtimestamp(time.time(), timezone.utc)
        rows = [entry.event.row(self._next + n, now, salt) for n, entry in enumerate(batch)]
        self._table.add(pa.Table.from_pylist(rows, schema=schema))
        for entry, row in zip(batch, rows, strict=True):
            entry.number = row["number"]
            self._sizes[row["number"]] = row["bytes"]
        self._next += len(batch)

    def _make_room(self, batch: Sequence[_Waiting]) -> None:
        """Drop the oldest events if the table would become too large."""
        events = len(self._sizes) + len(batch)
        size = sum(self._sizes.values()) + sum(entry.event.size_bytes for entry in batch)
        if events <= MOST_EVENTS and size <= MOST_BYTES:
            return
        kept = dict(self._sizes)
        for number in self._sizes:
            if events <= _KEPT * MOST_EVENTS and size <= _KEPT * MOST_BYTES:
                break
            events, size = events - 1, size - kept.pop(number)
        gone = len(self._sizes) - len(kept)
        if gone:
            self._keep(set(kept))
            self._tidy()
        self.made_room += gone

    def _keep(self, numbers: set[int]) -> None:
        """Leave only some events: the table is written anew in one step, and what it was before is removed."""
        if not numbers:
            return self._drop()

        def rewritten() -> None:
            rest = self._scan([*COLUMNS, "bytes"], None)
            rest = rest.filter(pa.array([number in numbers for number in rest["number"].to_pylist()], pa.bool_()))
            schema = feedback_events.schema(self._owner, feedback_events.salt(self._table.schema))
            self._table = self._connect(True).create_table(self._name, data=rest.cast(schema), mode="overwrite")

        try:
            self._asked(rewritten, "removed")
        except BaseException:
            self._forget()
            raise
        self._sizes = {number: size for number, size in self._sizes.items() if number in numbers}

    def _since(self, time: datetime) -> set[int]:
        """Return the numbers of the events from a time on."""
        if self._table is None:
            return set()
        first = time if time.tzinfo else time.replace(tzinfo=timezone.utc)
        rows = self._asked(lambda: self._scan(["number", "time"], None).to_pylist(), "read")
        return {row["number"] for row in rows if row["time"] >= first}

    def _tidy(self) -> None:
        """Compact the table; a failure is logged, since no event is lost by it."""
        try:
            self._compact()
        except Exception:
            self._forget()
            _LOG.warning("the feedback on collection %s can't be compacted", self._name, exc_info=True)

    def _compact(self) -> None:
        """Merge small files and remove old versions, and with them what was deleted; take a fresh handle."""
        with warnings.catch_warnings(action="ignore"):  # all who read hold the lock, others read anew
            self._table.optimize(cleanup_older_than=timedelta(0))
        self._table = self._connect(True).open_table(self._name)

    def _drop(self) -> None:
        def dropped() -> None:
            database = self._connect(False)
            if database is not None:
                try:
                    database.drop_table(self._name)
                except Exception as problem:
                    if not _is_missing(problem):
                        raise

        self._asked(dropped, "removed")
        self._forget()

    def _read(self) -> dict[int, int]:
        """Return bytes by number; read the table at first, and each time if it is another's."""
        if self._is_dropped:
            raise NotFound(f"collection {self._name} was dropped: there is no feedback on it left")
        if not self._is_read or self._read_only:
            self._table, self._sizes = None, {}
            self._asked(self._open, "read")
            self._is_read = True
            self._next = max(self._next, max(self._sizes, default=-1) + 1)
        return self._sizes

    def _open(self) -> None:
        database = self._connect(False)
        if database is None:
            return
        try:
            table = database.open_table(self._name)
        except Exception as problem:
            if _is_missing(problem):
                return
            raise
        if feedback_events.belongs(table.schema, self._owner):
            self._table = table
            rows = self._scan(["number", "bytes"], None)
            self._sizes = dict(zip(rows["number"].to_pylist(), rows["bytes"].to_pylist(), strict=True))

    def _scan(self, columns: Sequence[str], where: str | None) -> pa.Table:
        names = list(dict.fromkeys(["number", *columns]))
        query = self._table.search().select(names).limit(None)
        return (query.where(where) if where else query).to_arrow().sort_by("number").select(list(columns))

    def _check(self) -> None:
        if self._read_only:
            raise ReadOnly
        if self._is_dropped:
            raise NotFound(f"collection {self._name} was dropped: feedback on it isn't taken any more")
        self._may_write()

    def _forget(self) -> None:
        self._table, self._sizes, self._is_read = None, {}, False

    def _asked(self, ask: Callable[[], Any], verb: str) -> Any:
        try:
            return ask()
        except BaseException as problem:  # LanceDB raises anything, panics of its Rust code among it
            raise storage_problem(problem, verb) from problem


def _is_missing(problem: BaseException) -> bool:
    return isinstance(problem, FileNotFoundError) or "was not found" in str(problem)
