"""One LanceDB table: the only module, with the store, that talks to LanceDB."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from clip_client.errors import ClipError, InvalidInput, Timeout
from clip_client.spec import Tower
from clip_search.arrays import Floats, Rows
from clip_search.errors import NotFound, cleaned, is_filter_problem, storage_problem
from clip_search.storage.filters.sql import checked
from clip_search.storage.kinds import EXACT
from clip_search.storage.scalar_indexes import wanted
from clip_search.storage.schema import HEAVY, check_kind, identity, tower_column
from clip_search.storage.version_readers import Readers
from clip_search.storage.widening import finish_widening, widen

_SCAN_ROWS = 65_536
"""Rows in a batch of a scan: LanceDB's own default hands out a hundred times as many batches, each through Python."""
_VECTOR_ROWS = 4_096
_MERGED_ROWS_A_S = 50_000
"""Guess at LanceDB's compaction, until one has been timed."""
_SLOWER = 4
"""A compaction may take so many times as long as the one before: LanceDB takes the ages of versions after it."""
_MOST_ROWS = 2**62
_Out = TypeVar("_Out")
_FILTER_TIME = timedelta(seconds=20)
"""Bound on the scan of a client's filter."""


class Table:
    """Rows of a collection. One writer at a time; reads go on beside it.

    Whatever LanceDB raises becomes one of: NotFound once the table was dropped, InvalidInput for a filter that can't be
    used, else Unavailable or StorageFull.

    Args:
        table: LanceDB's handle.
        may_write: raises before each write that mustn't be done.
        reopen: gives a fresh handle, with nothing in its caches.

    Attributes:
        schema: columns with their types; kept here, since LanceDB takes a fifth of a millisecond for each look at them.
        identity: what tells it from every other table.
        merging_s: time that :meth:`optimize` took last; a guess before the first.
    """

    def __init__(
        self, table: Any, may_write: Callable[[], None] = lambda: None, *, reopen: Callable[[], Any] | None = None
    ) -> None:
        self._table, self._may_write, self._reopen = table, may_write, reopen
        finish_widening(table)
        self.schema: pa.Schema = table.schema
        self.identity = identity(self.schema) or str(table.name)
        self._rewriting = threading.Lock()  # what rewrites fragments goes one after the other, appends don't wait
        self._appending = threading.Lock()  # other writes; a new handle takes the old one's place while nothing is written
        self._readers = Readers()
        self.merging_s: float = table.count_rows() / _MERGED_ROWS_A_S
        self._dropped = False

    @property
    def version(self) -> int:
        """Number of the last commit."""
        return int(self._asked(lambda: self._table.version))

    def __len__(self) -> int:
        return int(self._asked(self._table.count_rows))

    def refresh(self) -> None:
        """Look at what is stored, whatever was believed."""
        with self._appending:
            self._asked(self._table.checkout_latest)
            self._written(lambda: finish_widening(self._table))
        self.schema = self._asked(lambda: self._table.schema)

    def drop(self, drop: Callable[[], None]) -> None:
        """Remove the table by ``drop`` once nothing rewrites it; from now on it isn't there, also for who still asks it.

        LanceDB would make the folder of a table anew for whatever is written into it later.
        """
        with self._rewriting:
            self._dropped = True
            try:
                drop()
            except BaseException:
                self._dropped = False
                raise

    def append(self, rows: pa.Table) -> None:
        """Add rows whose ids aren't there yet.

        Raises:
            Unavailable, StorageFull: they can't be written; none is there then.
        """
        with self._appending:
            self._written(lambda: self._table.add(rows))

    def upsert(self, rows: pa.Table) -> None:
        """Add rows, in the place of those with the same ids; raises as :meth:`append`."""
        with self._rewriting:
            merge = self._table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
            self._written(lambda: merge.execute(rows, on_bad_vectors="null"))  # null stays null

    def delete(self, rows: Rows) -> None:
        """Remove rows by number; raises as :meth:`append`."""
        with self._rewriting:
            self._written(lambda: self._table.delete(_among("row", rows.tolist())))

    def reserve(self, note: dict[str, Any]) -> None:
        """Note which row numbers may be given; raises as :meth:`append`."""
        with self._appending:
            self._written(lambda: self._table.update_field_metadata(note))
        self.schema = self._asked(lambda: self._table.schema)

    def add_columns(self, columns: dict[str, str]) -> None:
        """Add empty metadata columns, ``{name: type}``; raises as :meth:`append`."""
        with self._rewriting:
            self._written(
                lambda: self._table.add_columns([pa.field(name, check_kind(name, kind)) for name, kind in columns.items()])
            )
        self.schema = self._asked(lambda: self._table.schema)

    def widen(self, columns: Sequence[str]) -> None:
        """Make int columns hold floats; raises as :meth:`append`. :meth:`index_scalars` makes their indexes again."""
        with self._rewriting:
            self._written(lambda: widen(self._table, columns))
        self.schema = self._asked(lambda: self._table.schema)

    def beyond_floats(self, column: str) -> bool:
        """Tell if an int column holds numbers beyond those that floats count one by one."""
        return bool(self._asked(lambda: self._table.count_rows(f"{column} > {EXACT} OR {column} < -{EXACT}")))

    def matching(self, where: str) -> Rows:
        """Return the rows that a client's filter keeps, int64, ascending.

        Raises:
            InvalidInput: it isn't allowed, or fails on a value.
            Timeout: it takes too long.
        """
        return self._kept(checked(where, self.schema))

    def rows_of(self, ids: Sequence[str]) -> dict[str, int]:
        """Row by id of those that are there."""
        found = self._scan(["id", "row"], _among("id", ids), _SCAN_ROWS) if ids else ()
        return {id: row for batch in found for id, row in zip(*(batch[n].to_pylist() for n in ("id", "row")), strict=True)}

    def get(self, rows: Sequence[int], columns: Sequence[str]) -> dict[int, dict[str, Any]]:
        """Values by row of those that are there.

        Raises:
            InvalidInput: a number is none that a row could have.
        """
        if odd := [row for row in rows if not -1 <= row < _MOST_ROWS]:
            raise InvalidInput(f"row {str(odd[0])[:30]}: expected a row's number, 0 to 2**62")
        found = self._scan(["row", *columns], _among("row", list(rows)), _SCAN_ROWS) if len(rows) else ()
        return {values.pop("row"): values for batch in found for values in batch.to_pylist()}

    def page(self, where: str, after: int, limit: int, columns: Sequence[str]) -> list[dict[str, Any]]:
        """The first rows after a row that a client's filter keeps, by number; raises as :meth:`matching`."""
        rest = f"row > {after}"
        rows = self._kept(f"({checked(where, self.schema)}) AND {rest}") if where else self.numbers(rest)
        rows = rows[:limit]
        return [{"row": row, **values} for row, values in sorted(self.get(rows.tolist(), columns).items())]

    def ids(self) -> Iterator[list[str]]:
        """All ids, in batches."""
        return (batch["id"].to_pylist() for batch in self._scan(["id"], None, _SCAN_ROWS))

    def numbers(self, where: str | None = None, time: timedelta | None = None) -> Rows:
        """The rows that there are, or those that a filter of our own keeps, int64, ascending."""
        found = (batch["row"].to_numpy() for batch in self._scan(["row"], where, _SCAN_ROWS, time))
        return np.sort(np.concatenate([np.empty(0, np.int64), *found]))

    def rows(self, tower: Tower) -> Rows:
        """The rows that have a vector of this tower, int64, ascending."""
        return self.numbers(f"has_{tower} = true")

    def there(self, rows: Rows) -> Rows:
        """Those of these rows that are there, ascending."""
        return self.numbers(_among("row", rows.tolist())) if len(rows) else rows

    def count(self, tower: Tower) -> int:
        """How many rows have a vector of this tower."""
        return int(self._asked(lambda: self._table.count_rows(f"has_{tower} = true")))

    def vectors(self, tower: Tower, first: int, last: int) -> Iterator[tuple[Rows, Floats]]:
        """Rows from ``first`` to ``last`` with their vectors [n, D], in batches."""
        column = tower_column(tower)
        for batch in self._scan(["row", column], f"has_{tower} = true AND row >= {first} AND row <= {last}", _VECTOR_ROWS):
            size = batch[column].type.list_size
            yield batch["row"].to_numpy(), batch[column].flatten().to_numpy().reshape(-1, size)  # [n * D] -> [n, D]

    def cards(self, first: int, last: int) -> pa.Table:
        """All but vectors and thumbnails of the rows from ``first`` to ``last``, by row."""
        columns = [name for name in self.schema.names if name not in HEAVY]
        found = list(self._scan(columns, f"row >= {first} AND row <= {last}", _SCAN_ROWS))
        kinds = pa.schema([self.schema.field(name) for name in columns])
        return pa.Table.from_batches(found, kinds if not found else None).sort_by("row")

    def nearest(self, query: Floats, tower: Tower, k: int, where: str) -> list[dict[str, Any]]:
        """LanceDB's own search: ``row`` and ``_distance`` (1 - cosine) of the nearest to a query [D]."""
        search = self._table.search(query, vector_column_name=tower_column(tower)).distance_type("cosine").nprobes(32)
        keep = f"has_{tower} = true" + (f" AND ({checked(where, self.schema)})" if where else "")
        nearest = search.refine_factor(10).where(keep, prefilter=True).select(["row"]).limit(k)
        return self._filtered(lambda: self._asked(lambda: list(nearest.to_list(timeout=_FILTER_TIME))), keep if where else "")

    def vectors_of(self, tower: Tower, rows: Sequence[int]) -> dict[int, Floats]:
        """Vectors by row of those that are there."""
        column = tower_column(tower)
        found = self.get(rows, [column])
        return {row: np.array(values[column], np.float32) for row, values in found.items() if values[column] is not None}

    def indexed(self, tower: Tower) -> bool:
        """Whether LanceDB's own vector index is there."""
        return any(tower_column(tower) in one.columns for one in self._asked(self._table.list_indices))

    def optimize(self) -> None:
        """Merge small files, bring the scalar indexes up to date, drop the versions that nobody reads any more.

        LanceDB's caches keep something of each version for good: a fresh handle lets go of them.
        """
        with self._rewriting:
            start, unread = time.monotonic(), self._readers.unread(_SLOWER * self.merging_s)
            self._written(lambda: self._table.optimize(cleanup_older_than=unread))
            self.merging_s = time.monotonic() - start
            if self._reopen:
                with self._appending:
                    self._table = self._asked(self._reopen)

    def fragments(self) -> int:
        """Return the number of files that hold its rows."""
        return int(self._asked(self._table.stats)["fragment_stats"]["num_fragments"])

    def index_scalars(self) -> None:
        """Give the keys and the user's columns an index, where they have none."""
        have = {name for one in self._asked(self._table.list_indices) for name in one.columns}
        for name, kind in wanted(self.schema, have):
            with self._rewriting, warnings.catch_warnings(action="ignore"):
                self._written(partial(self._table.create_index, name, config=kind))

    def index_vectors(self, tower: Tower) -> None:
        """Build LanceDB's own vector index."""
        import lancedb.index

        kind = lancedb.index.IvfHnswSq(distance_type="cosine")
        with self._rewriting:
            self._written(lambda: self._table.create_index(tower_column(tower), config=kind))

    def _kept(self, condition: str) -> Rows:
        """Return the rows that a client's filter keeps, which was checked."""
        return self._filtered(lambda: self.numbers(condition, _FILTER_TIME), condition)

    def _scan(
        self, columns: Sequence[str], where: str | None, rows: int, time: timedelta | None = None
    ) -> Iterator[pa.RecordBatch]:
        with self._readers.reading():
            query = self._table.search().select(list(columns)).limit(None)
            batches = self._asked(lambda: iter((query.where(where) if where else query).to_batches(rows, timeout=time)))
            while (batch := self._asked(lambda: next(batches, None))) is not None:
                yield batch

    def _filtered(self, read: Callable[[], _Out], where: str) -> _Out:
        """Read through a client's filter, which was checked; only what is wrong with that is its fault.

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
                raise Timeout(f"the filter took longer than {_FILTER_TIME.seconds} s: make it simpler") from raw
            if where and raw and (is_filter_problem(raw) or self._refuses(where)):
                raise InvalidInput(f"filter: {cleaned(raw)}") from raw
            raise

    def _refuses(self, where: str) -> bool:
        """Tell if a plan with this filter fails, and one without doesn't; no data is read for it."""
        plain = self._table.search().select(["row"]).limit(None)
        try:
            plain.explain_plan()
        except Exception:  # LanceDB raises anything
            return False
        try:
            self._table.search().select(["row"]).limit(None).where(where).explain_plan()
        except Exception as problem:  # LanceDB raises anything
            return not self._dropped and "os error" not in str(problem)
        return False

    def _asked(self, ask: Callable[[], _Out], done: str = "read") -> _Out:
        """Ask LanceDB, which raises anything, panics of its Rust code among it, which aren't Exceptions."""
        if self._dropped and done == "written":
            raise self._gone()
        try:
            with self._readers.reading():
                return ask()
        except ClipError:
            raise
        except BaseException as problem:
            raise (self._gone() if self._dropped else storage_problem(problem, done)) from problem

    def _written(self, write: Callable[[], Any]) -> None:
        self._may_write()
        with self._readers.writing():
            self._asked(write, "written")

    def _gone(self) -> NotFound:
        return NotFound(f"collection {self._table.name} was dropped: there is nothing left of it")


def _among(column: str, values: Sequence[int] | Sequence[str]) -> str:
    quoted = (str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'" for value in values)
    return f"{column} IN ({', '.join(quoted)})"
