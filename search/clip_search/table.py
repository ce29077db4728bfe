"""One LanceDB table: the only module, with the store, that talks to LanceDB."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from clip_client.errors import ClipError, InvalidInput, Timeout
from clip_client.spec import Tower
from clip_search.errors import cleaned, storage_problem
from clip_search.faiss_index import Floats
from clip_search.filters import checked
from clip_search.part import Rows
from clip_search.schema import HEAVY, RESERVED, TYPES, tower_column

_SCAN_ROWS = 65_536
"""Rows in a batch of a scan: LanceDB's own default hands out a hundred times as many batches, each through Python."""
_VECTOR_ROWS = 4_096
_KEPT = timedelta(minutes=10)
_FILTER_TIME = timedelta(seconds=20)
"""Bound on the scan of a client's filter."""


class Table:
    """Rows of a collection. One writer at a time; reads go on beside it.

    Attributes:
        schema: columns with their types; kept here, since LanceDB takes a fifth of a millisecond for each look at them.
    """

    def __init__(self, table: Any) -> None:
        self._table = table
        self.schema: pa.Schema = table.schema
        self._rewriting = threading.Lock()  # what rewrites fragments goes one after the other, appends don't wait

    @property
    def version(self) -> int:
        """Number of the last commit."""
        return int(self._table.version)

    def __len__(self) -> int:
        return int(self._table.count_rows())

    def append(self, rows: pa.Table) -> None:
        """Add rows whose ids aren't there yet.

        Raises:
            Unavailable, StorageFull: they can't be written; none is there then.
        """
        self._written(lambda: self._table.add(rows))

    def upsert(self, rows: pa.Table) -> None:
        """Add rows, in the place of those with the same ids; raises as :meth:`append`."""
        merge = self._table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
        with self._rewriting:
            self._written(lambda: merge.execute(rows, on_bad_vectors="null"))  # null stays null

    def delete(self, rows: Rows) -> None:
        """Remove rows by number; raises as :meth:`append`."""
        with self._rewriting:
            self._written(lambda: self._table.delete(_among("row", rows.tolist())))

    def add_columns(self, columns: dict[str, str]) -> None:
        """Add empty metadata columns, ``{name: type}``; raises as :meth:`append`."""
        with self._rewriting:
            self._written(lambda: self._table.add_columns([pa.field(name, TYPES[kind]) for name, kind in columns.items()]))
        self.schema = self._table.schema

    def matching(self, where: str) -> Rows:
        """Return the rows that a client's filter keeps, int64, ascending.

        Raises:
            InvalidInput: it isn't allowed, or fails on a value.
            Timeout: it takes too long.
        """
        return self._numbers(checked(where, self.schema), _FILTER_TIME)

    def rows_of(self, ids: Sequence[str]) -> dict[str, int]:
        """Row by id of those that are there."""
        found = self._scan(["id", "row"], _among("id", ids), _SCAN_ROWS) if ids else ()
        return {id: row for batch in found for id, row in zip(*(batch[n].to_pylist() for n in ("id", "row")), strict=True)}

    def get(self, rows: Sequence[int], columns: Sequence[str]) -> dict[int, dict[str, Any]]:
        """Values by row of those that are there."""
        found = self._scan(["row", *columns], _among("row", list(rows)), _SCAN_ROWS) if len(rows) else ()
        return {values.pop("row"): values for batch in found for values in batch.to_pylist()}

    def page(self, where: str, after: int, limit: int, columns: Sequence[str]) -> list[dict[str, Any]]:
        """The first rows after a row that a client's filter keeps, by number; raises as :meth:`matching`."""
        kept = f"({checked(where, self.schema)}) AND row > {after}" if where else f"row > {after}"
        rows = self._numbers(kept, _FILTER_TIME)[:limit]
        if not len(rows):
            return []
        found = self._scan(["row", *columns], f"{kept} AND row <= {rows[-1]}", _SCAN_ROWS)
        return sorted((row for batch in found for row in batch.to_pylist()), key=lambda row: row["row"])

    def ids(self) -> Iterator[list[str]]:
        """All ids, in batches."""
        return (batch["id"].to_pylist() for batch in self._scan(["id"], None, _SCAN_ROWS))

    def rows(self, tower: Tower) -> Rows:
        """The rows that have a vector of this tower, int64, ascending."""
        return self._numbers(f"has_{tower} = true")

    def count(self, tower: Tower) -> int:
        """How many rows have a vector of this tower."""
        return int(self._table.count_rows(f"has_{tower} = true"))

    def last_row(self) -> int:
        """The greatest row number; -1 in an empty table."""
        return int(max((batch["row"].to_numpy().max() for batch in self._scan(["row"], None, _SCAN_ROWS)), default=-1))

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
        try:
            return list(
                search.refine_factor(10).where(keep, prefilter=True).select(["row"]).limit(k).to_list(timeout=_FILTER_TIME)
            )
        except Exception as problem:  # LanceDB raises anything
            raise InvalidInput(f"filter: {cleaned(problem)}") from problem

    def vectors_of(self, tower: Tower, rows: Sequence[int]) -> dict[int, Floats]:
        """Vectors by row of those that are there."""
        column = tower_column(tower)
        found = self.get(rows, [column])
        return {row: np.array(values[column], np.float32) for row, values in found.items() if values[column] is not None}

    def indexed(self, tower: Tower) -> bool:
        """Whether LanceDB's own vector index is there."""
        return any(tower_column(tower) in one.columns for one in self._table.list_indices())

    def optimize(self) -> None:
        """Merge small files, bring the scalar indexes up to date, drop old versions."""
        with self._rewriting:
            self._table.optimize(cleanup_older_than=_KEPT)

    def index_scalars(self) -> None:
        """Give the keys and the user's columns an index, where they have none: ``merge_insert`` and filters want one."""
        import lancedb.index

        have = {name for one in self._table.list_indices() for name in one.columns}
        own = [field.name for field in self.schema if field.name not in RESERVED and field.type in TYPES.values()]
        for name in {"id", "row", *own} - have:
            kind = lancedb.index.Bitmap() if self.schema.field(name).type == pa.bool_() else lancedb.index.BTree()
            with self._rewriting, warnings.catch_warnings(action="ignore"):
                self._table.create_index(name, config=kind)

    def index_vectors(self, tower: Tower) -> None:
        """Build LanceDB's own vector index."""
        import lancedb.index

        with self._rewriting:
            self._table.create_index(tower_column(tower), config=lancedb.index.IvfHnswSq(distance_type="cosine"))

    def _numbers(self, where: str, time: timedelta | None = None) -> Rows:
        """Return the rows that a condition of ours keeps, int64, ascending."""
        found = self._scan(["row"], where, _SCAN_ROWS, time)
        return np.sort(np.concatenate([np.empty(0, np.int64), *(batch["row"].to_numpy() for batch in found)]))

    def _scan(
        self, columns: Sequence[str], where: str | None, rows: int, time: timedelta | None = None
    ) -> Iterator[pa.RecordBatch]:
        query = self._table.search().select(list(columns)).limit(None)
        try:
            yield from (query.where(where) if where else query).to_batches(rows, timeout=time)
        except Exception as problem:  # LanceDB raises anything
            if "Query timeout after" in str(problem):
                raise Timeout(f"the filter took longer than {_FILTER_TIME.seconds} s: make it simpler") from problem
            raise InvalidInput(f"filter: {cleaned(problem)}") from problem

    def _written(self, write: Any) -> None:
        try:
            write()
        except ClipError:
            raise
        except Exception as problem:  # LanceDB raises anything
            raise storage_problem(problem) from problem


def _among(column: str, values: Sequence[int] | Sequence[str]) -> str:
    quoted = (str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'" for value in values)
    return f"{column} IN ({', '.join(quoted)})"
