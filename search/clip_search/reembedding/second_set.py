"""Second set of vectors: a table beside the one that serves, with the same rows under the same numbers."""

import functools
import logging
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from clip_client.errors import ClipError
from clip_client.spec import TOWERS, Tower
from clip_search.arrays import Floats, Rows
from clip_search.errors import cleaned
from clip_search.reembedding.second_model import SecondModel
from clip_search.storage.id_filter import IdFilter
from clip_search.storage.rows import NewRow, as_lists
from clip_search.storage.schema import SOURCE_STATE, own_columns, tower_column
from clip_search.storage.table import Table

_LOG = logging.getLogger(__name__)
_OPTIMIZE_COMMITS = 100  # commits between two compactions, as of a collection's upkeep


class SecondSet:
    """Table that gets what is added to another, with vectors of its own, and loses what that loses.

    Safe to use from several threads: whoever fills it looks under the same lock whether a row is still there under which a row
    that goes is removed.

    Args:
        table: of the set.
        serving: the table whose rows it has.
        model: embeds for it.
    """

    def __init__(self, table: Table, serving: Table, model: SecondModel) -> None:
        self.table, self.model, self._serving = table, model, serving
        self.trouble = ""  # why it takes in no rows any more
        self._lock = threading.RLock()
        self._commits = 0

    def take(self, new: pa.Table, rows: Sequence[NewRow]) -> None:
        """Write committed rows that have vectors for it; the others are pending. Never raises."""
        if self.trouble:
            return
        there = [n for n, row in enumerate(rows) if row.vectors.keys() <= row.others.keys()]
        try:
            if there:
                self._append(new.take(there), [{tower: rows[n].others[tower] for tower in rows[n].vectors} for n in there])
        except BaseException as problem:  # LanceDB raises anything, panics of its Rust code among it
            self._failed(problem)

    def remove(self, rows: Rows) -> None:
        """Remove rows that are gone; never raises. What stays because of a fault is found by :meth:`orphans`."""
        if not len(rows):
            return
        try:
            with self._lock:
                self.table.delete(rows)
                self._commits += 1
        except BaseException as problem:  # as above
            self._failed(problem)

    def fill(self, read: pa.Table, vectors: Mapping[int, Mapping[Tower, Floats]]) -> None:
        """Write rows that were read from the other table, those that are still there, with their vectors by number.

        Raises:
            ClipError: they can't be written.
        """
        numbers = read["row"].to_numpy()
        with self._lock:
            ascending = np.sort(numbers)
            there = np.isin(numbers, self._serving.there(ascending)) & ~np.isin(numbers, self.table.there(ascending))
            if there.any():
                self._append(read.filter(pa.array(there)), [vectors[row] for row in numbers[there].tolist()])

    def missing(self) -> Rows:
        """Return the rows that it lacks, ascending."""
        return np.setdiff1d(self._serving.numbers(), self.table.numbers(), assume_unique=True)

    def orphans(self) -> Rows:
        """Return the rows that it has and the other one hasn't, ascending."""
        return np.setdiff1d(self.table.numbers(), self._serving.numbers(), assume_unique=True)

    def embed(self, tower: Tower, inputs: Sequence[Any]) -> Sequence[Floats | None]:
        """Return vectors of encoded pictures or of texts, None for those that can't be embedded now; never raises."""
        return self.model.tried(self.model.images if tower == "image" else self.model.texts, inputs)

    def copied(self, row: int) -> Mapping[Tower, Floats]:
        """Return a row's vectors by tower; none for a row that it lacks, or if it can't be read."""
        try:
            values = self.table.get([row], [tower_column(tower) for tower in TOWERS]).get(row, {})
        except ClipError:
            return {}
        found = {tower: values.get(tower_column(tower)) for tower in TOWERS}
        return {tower: np.asarray(vector, np.float32) for tower, vector in found.items() if vector is not None}

    def compact(self) -> None:
        """Merge its files once there are many; raises as :meth:`fill`."""
        if self._commits >= _OPTIMIZE_COMMITS:
            self._commits = 0
            self.table.index_scalars()
            self.table.optimize()

    @functools.cached_property
    def _ids(self) -> IdFilter:
        """Ids that may be there: a look into the table for each of ten additions a second took half of a core."""
        return IdFilter(self.table.ids())

    def _append(self, rows: pa.Table, vectors: Sequence[Mapping[Tower, Floats]]) -> None:
        with self._lock:
            self._adapt()
            ids = rows["id"].to_pylist()
            if len(stale := self._with_ids(ids)):
                self.table.delete(stale)
            self._ids.add(ids)  # before they are there, since that may fail and yet be done
            self.table.append(self._made(rows, vectors))
            self._commits += 1

    def _with_ids(self, ids: Sequence[str]) -> Rows:
        return np.array(sorted(self.table.rows_of(self._ids.maybe(ids)).values()), np.int64)

    def _made(self, rows: pa.Table, vectors: Sequence[Mapping[Tower, Floats]]) -> pa.Table:
        """Return rows as the table takes them, with these vectors in the place of their own."""
        columns: dict[str, Any] = {}
        for tower in TOWERS:
            kind = self.table.schema.field(tower_column(tower)).type
            columns[tower_column(tower)] = as_lists([own.get(tower) for own in vectors], kind)
            columns[f"has_{tower}"] = pa.array([tower in own for own in vectors])
        columns["fingerprint"] = pa.array([self.model.fingerprint or None] * len(rows), pa.string())
        for field in self.table.schema:
            if field.name not in columns:
                is_there = field.name in rows.column_names
                columns[field.name] = rows[field.name].cast(field.type) if is_there else pa.nulls(len(rows), field.type)
        return pa.table([columns[field.name] for field in self.table.schema], schema=self.table.schema)

    def _adapt(self) -> None:
        """Add and widen columns as the other table has."""
        wanted, own = own_columns(self._serving.schema), own_columns(self.table.schema)
        new = {name: kind for name, kind in wanted.items() if name not in own}
        if SOURCE_STATE in self._serving.schema.names and SOURCE_STATE not in self.table.schema.names:
            new[SOURCE_STATE] = "string"
        if new:
            self.table.add_columns(new)
        if widened := [name for name, kind in own.items() if kind == "int" and wanted.get(name) == "float"]:
            self.table.widen(widened)

    def _failed(self, problem: BaseException) -> None:
        self.trouble = cleaned(problem)
        _LOG.warning("%s takes in no more rows, %s serves on: %s", self.table.name, self._serving.name, self.trouble)
