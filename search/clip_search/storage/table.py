"""LanceDB table of a collection: reads and writes by row, id, filter and vector."""

import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from clip_client.errors import InvalidInput
from clip_client.spec import Tower
from clip_search.arrays import Floats, Rows, present
from clip_search.storage import vector_index
from clip_search.storage.deletion_files import DeletionFiles
from clip_search.storage.filters.sql import checked
from clip_search.storage.handle import FILTER_TIME, Handle
from clip_search.storage.kinds import EXACT
from clip_search.storage.scalar_indexes import wanted
from clip_search.storage.schema import HEAVY, check_kind, identity, tower_column
from clip_search.storage.vector_index import Effort, IndexState
from clip_search.storage.widening import finish_widening, whole, widen

_SCAN_ROWS = 65_536
"""Rows in a batch of a scan: LanceDB's own default hands out a hundred times as many batches, each through Python."""
_VECTOR_ROWS = 4_096  # vectors in a batch of a scan: some megabytes
_NAMED = 250  # ids in a condition: LanceDB has a copy of it for each file, and 2,000 in 800 files took a gigabyte
MERGED_ROWS_A_S = 50_000  # guess at LanceDB's compaction, until one has been timed
_SLOWER = 4  # a compaction may take so many times as long as the one before: LanceDB takes the ages of versions after it
_TAG_MARGIN = timedelta(seconds=10)
_DENSE = 2  # times as many numbers as rows: up to here a range is read, and its other rows dropped
MOST_ROWS = 2**62  # row numbers are int64


class Table:
    """Rows of a collection. One writer at a time; reads go on beside it. Raises as :class:`~clip_search.storage.handle.Handle`.

    Args:
        table: LanceDB's handle.
        may_write: raises before each write that mustn't be done.
        reopen: gives a fresh handle, with nothing in its caches.
        read_only: it is another's; nothing is written.
        grace_s: age up to which old versions stay, since other processes may read them.
        folder: of the table, unless it lies in an object store.
    """

    def __init__(
        self,
        table: Any,
        may_write: Callable[[], None] = lambda: None,
        *,
        reopen: Callable[[], Any] | None = None,
        read_only: bool = False,
        grace_s: float = 0,
        folder: Path | None = None,
    ) -> None:
        self.read_only, self._grace = read_only, timedelta(seconds=grace_s)
        if not read_only:
            finish_widening(table)
        self._handle = Handle(table, may_write, reopen, DeletionFiles(folder) if folder and not read_only else None)
        self.schema: pa.Schema = whole(table.schema)  # kept, since LanceDB takes a fifth of a millisecond for each look at it
        self.name, self.identity = str(table.name), identity(self.schema) or str(table.name)  # which no other table has
        self._rewriting = threading.Lock()  # what rewrites fragments goes one after the other, appends don't wait
        self._appending = threading.Lock()  # other writes; a new handle takes the old one's place while nothing is written
        self.merging_s: float = table.count_rows() / MERGED_ROWS_A_S  # of the last compaction; a guess before the first

    @property
    def version(self) -> int:
        """Number of the last commit."""
        return int(self._handle.ask(lambda: self._handle.raw.version))

    @property
    def is_replaced(self) -> bool:
        """True once another table has its name."""
        return (identity(self.schema) or self.identity) != self.identity

    def __len__(self) -> int:
        return int(self._handle.ask(self._handle.raw.count_rows))

    def refresh(self) -> None:
        """Read the table's newest version."""
        with self._appending:
            self._handle.ask(self._handle.raw.checkout_latest)
            if not self.read_only:
                self._handle.write(lambda: finish_widening(self._handle.raw))
        self.schema = whole(self._handle.ask(lambda: self._handle.raw.schema))

    def drop(self, drop: Callable[[], None]) -> None:
        """Remove the table by ``drop`` once nothing rewrites it; as :meth:`Handle.drop`."""
        with self._rewriting:
            self._handle.drop(drop)

    def append(self, rows: pa.Table) -> None:
        """Add rows whose ids aren't there yet; raise Unavailable or StorageFull if none can be written."""
        with self._appending:
            self._handle.write(lambda: self._handle.raw.add(rows))

    def upsert(self, rows: pa.Table) -> None:
        """Add rows, in the place of those with the same ids; raises as :meth:`append`."""
        with self._rewriting:
            merge = self._handle.raw.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
            self._handle.hide(lambda: merge.execute(rows, on_bad_vectors="null"), self._appending)  # null stays null

    def delete(self, rows: Rows) -> None:
        """Remove rows by number; raises as :meth:`append`."""
        with self._rewriting:
            self._handle.hide(lambda: self._handle.raw.delete(_among("row", rows.tolist())), self._appending)

    def note(self, note: dict[str, Any]) -> None:
        """Change a field's metadata, to say which row numbers may be given, or which set serves; raises as :meth:`append`."""
        self._change_schema(self._appending, lambda: self._handle.raw.update_field_metadata(note))

    def add_columns(self, columns: dict[str, str]) -> None:
        """Add empty metadata columns, ``{name: type}``; raises as :meth:`append`."""
        fields = [pa.field(name, check_kind(name, kind)) for name, kind in columns.items()]
        self._change_schema(self._rewriting, lambda: self._handle.raw.add_columns(fields))

    def widen(self, columns: Sequence[str]) -> None:
        """Make int columns hold floats; raises as :meth:`append`. :meth:`index_scalars` makes their indexes again."""
        self._change_schema(self._rewriting, lambda: widen(self._handle.raw, columns))

    def beyond_floats(self, column: str) -> bool:
        """Tell if an int column holds numbers beyond those that floats count one by one."""
        return bool(self.count_of(f"{column} > {EXACT} OR {column} < -{EXACT}"))

    def matching(self, where: str) -> Rows:
        """Return the rows that a client's filter keeps, int64, ascending; raise InvalidInput or Timeout if it fails."""
        return self._kept(checked(where, self.schema))

    def rows_of(self, ids: Sequence[str]) -> dict[str, int]:
        """Return the row by id of the ids that are there."""
        some = (ids[start : start + _NAMED] for start in range(0, len(ids), _NAMED))
        batches = (batch for named in some for batch in self._handle.scan(["id", "row"], _among("id", named), _SCAN_ROWS))
        return {id: row for batch in batches for id, row in zip(*(batch[n].to_pylist() for n in ("id", "row")), strict=True)}

    def get(self, rows: Sequence[int], columns: Sequence[str]) -> dict[int, dict[str, Any]]:
        """Return the values by row of the rows that are there; raise InvalidInput for a number that no row could have."""
        if odd := [row for row in rows if not -1 <= row < MOST_ROWS]:
            raise InvalidInput(f"row {str(odd[0])[:30]}: expected a row's number, 0 to 2**62")
        batches = self._handle.scan(["row", *columns], _among("row", list(rows)), _SCAN_ROWS) if len(rows) else ()
        return {values.pop("row"): values for batch in batches for values in batch.to_pylist()}

    def read(self, rows: Rows, columns: Sequence[str]) -> pa.Table:
        """Return columns of the rows that are there, of those given (ascending), by row."""
        names = list(dict.fromkeys(["row", *columns]))
        batches: list[pa.RecordBatch] = []
        if len(rows):
            first, last = int(rows[0]), int(rows[-1])
            is_dense = last - first < _DENSE * len(rows)
            condition = f"row >= {first} AND row <= {last}" if is_dense else _among("row", rows.tolist())
            batches = list(self._handle.scan(names, condition, _VECTOR_ROWS))
        table = pa.Table.from_batches(batches, pa.schema([self.schema.field(name) for name in names]))
        return table.filter(pa.array(present(rows, table["row"].to_numpy()))).sort_by("row").select(columns)

    def page(self, where: str, after: int, limit: int, columns: Sequence[str]) -> list[dict[str, Any]]:
        """Return the first rows after a row that a client's filter keeps, by number; raises as :meth:`matching`."""
        rest = f"row > {after}"
        rows = self._kept(f"({checked(where, self.schema)}) AND {rest}") if where else self.numbers(rest)
        rows = rows[:limit]
        return [{"row": row, **values} for row, values in sorted(self.get(rows.tolist(), columns).items())]

    def ids(self) -> Iterator[list[str]]:
        """Yield all ids, in batches."""
        return (batch["id"].to_pylist() for batch in self._handle.scan(["id"], None, _SCAN_ROWS))

    def numbers(self, where: str | None = None, time: timedelta | None = None) -> Rows:
        """Return all rows, or those that a filter of our own keeps, int64, ascending."""
        batches = (batch["row"].to_numpy() for batch in self._handle.scan(["row"], where, _SCAN_ROWS, time))
        return np.sort(np.concatenate([np.empty(0, np.int64), *batches]))

    def numbers_to(self, last: int) -> Rows:
        """Return the rows up to ``last``, int64, ascending."""
        return self.numbers(f"row <= {last}")

    def rows(self, tower: Tower) -> Rows:
        """Return the rows with a vector of this tower, int64, ascending."""
        return self.numbers(f"has_{tower} = true")

    def there(self, rows: Rows) -> Rows:
        """Return the rows that exist, of those given, ascending."""
        return self.numbers(_among("row", rows.tolist())) if len(rows) else rows

    def count(self, tower: Tower) -> int:
        """Return the number of rows with a vector of this tower."""
        return self.count_of(f"has_{tower} = true")

    def count_of(self, where: str) -> int:
        """Return the number of rows that a filter of our own keeps."""
        return int(self._handle.ask(lambda: self._handle.raw.count_rows(where)))

    def vectors(self, tower: Tower, first: int, last: int) -> Iterator[tuple[Rows, Floats]]:
        """Yield rows from ``first`` to ``last`` with their vectors [n, D], in batches."""
        column = tower_column(tower)
        for batch in self._handle.scan(
            ["row", column], f"has_{tower} = true AND row >= {first} AND row <= {last}", _VECTOR_ROWS
        ):
            size = batch[column].type.list_size
            yield batch["row"].to_numpy(), batch[column].flatten().to_numpy().reshape(-1, size)  # [n * D] -> [n, D]

    def vector_size(self, tower: Tower) -> int:
        """Return the number of dimensions of a tower's vectors."""
        return int(self.schema.field(tower_column(tower)).type.list_size)

    def cards(self, first: int, last: int) -> pa.Table:
        """Return all but vectors and thumbnails of the rows from ``first`` to ``last``, by row."""
        columns = [name for name in self.schema.names if name not in HEAVY]
        batches = list(self._handle.scan(columns, f"row >= {first} AND row <= {last}", _SCAN_ROWS))
        kinds = pa.schema([self.schema.field(name) for name in columns])
        return pa.Table.from_batches(batches, kinds if not batches else None).sort_by("row")

    def nearest(self, query: Floats, tower: Tower, k: int, where: str, effort: Effort | None) -> tuple[Floats, Rows]:
        """Return cosines and rows of the nearest to a query [D], best first; exactly, or by LanceDB's index with an effort."""
        search = vector_index.prepared(self._handle.raw, tower_column(tower), query, effort).limit(k)
        if where:
            search = search.where(checked(where, self.schema), prefilter=True)
        nearest = self._handle.ask_filtered(lambda: self._handle.ask(lambda: search.to_arrow(timeout=FILTER_TIME)), where)
        return 1 - nearest["_distance"].to_numpy(), nearest["row"].to_numpy()

    def vectors_of(self, tower: Tower, rows: Sequence[int]) -> dict[int, Floats]:
        """Return the vectors by row of the rows that have one."""
        column = tower_column(tower)
        by_row = self.get(rows, [column])
        return {row: np.array(values[column], np.float32) for row, values in by_row.items() if values[column] is not None}

    def matrix_of(self, tower: Tower, rows: Rows) -> Floats:
        """Return the vectors of rows in any order, float32 [n, D]; zeros for a row without one."""
        vectors, by_row = np.zeros((len(rows), self.vector_size(tower)), np.float32), self.vectors_of(tower, rows.tolist())
        for n, row in enumerate(rows.tolist()):
            vectors[n] = by_row.get(row, 0)
        return vectors

    def vector_index(self, tower: Tower) -> IndexState | None:
        """Return the state of LanceDB's own vector index; None if there is none."""
        return self._handle.ask(lambda: vector_index.state(self._handle.raw, tower_column(tower)))

    def tuning(self, tower: Tower) -> dict[str, Any]:
        """Return the note of that index's tuning; empty if there is none."""
        return vector_index.noted(self.schema, tower_column(tower))

    def note_tuning(self, tower: Tower, note: dict[str, Any]) -> None:
        """Note the tuning of that index, for all who read the table; raises as :meth:`append`."""
        change = vector_index.note(tower_column(tower), note)
        self._change_schema(self._appending, lambda: self._handle.raw.update_field_metadata(change))

    def optimize(self) -> None:
        """Merge small files, bring the scalar indexes up to date, drop the versions that nobody reads any more.

        LanceDB's caches keep something of each version for good: a fresh handle lets go of them.
        """
        with self._rewriting:
            start = time.monotonic()
            unread = max(self._handle.readers.unread(_SLOWER * self.merging_s), self._grace, self._tagged())
            self._handle.write(lambda: self._handle.raw.optimize(cleanup_older_than=unread), self._appending)
            self.merging_s = time.monotonic() - start
            with self._appending:
                self._handle.renew()

    def _tagged(self) -> timedelta:
        """Return the age of the oldest version with a tag, a backup's say: it stays, or LanceDB would refuse to drop any."""
        tags = self._handle.ask(self._handle.raw.tags.list)
        versions = {tag["version"] for tag in tags.values()}
        known = self._handle.ask(self._handle.raw.list_versions) if versions else []
        times = [each["timestamp"] for each in known if each["version"] in versions]
        return max((datetime.now(each.tzinfo) - each + _TAG_MARGIN for each in times), default=timedelta(0))

    def fragments(self) -> int:
        """Return the number of files that hold its rows."""
        return int(self._handle.ask(self._handle.raw.stats)["fragment_stats"]["num_fragments"])

    def index_scalars(self) -> None:
        """Build the missing indexes of the keys and the user's columns."""
        have = {name for index in self._handle.ask(self._handle.raw.list_indices) for name in index.columns}
        for name, kind in wanted(self.schema, have):
            with self._rewriting, warnings.catch_warnings(action="ignore"):
                self._handle.write(partial(self._handle.raw.create_index, name, config=kind), self._appending)

    def index_vectors(self, tower: Tower, bits: int, sample: int) -> None:
        """Build LanceDB's own vector index anew; raises as :meth:`append`."""
        with self._rewriting:
            self._handle.write(lambda: vector_index.build(self._handle.raw, tower_column(tower), bits, sample), self._appending)

    def _change_schema(self, lock: threading.Lock, change: Callable[[], Any]) -> None:
        with lock:
            self._handle.write(change)
        self.schema = self._handle.ask(lambda: self._handle.raw.schema)

    def _kept(self, condition: str) -> Rows:
        """Return the rows that a client's filter keeps, which was checked."""
        return self._handle.ask_filtered(lambda: self.numbers(condition, FILTER_TIME), condition)


def _among(column: str, values: Sequence[int] | Sequence[str]) -> str:
    quoted = (str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'" for value in values)
    return f"{column} IN ({', '.join(quoted)})"
