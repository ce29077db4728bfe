"""Rows from the table to Milvus: those that it lacks, with the columns that filters may use."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from clip_client.spec import Tower
from clip_search.arrays import Floats, Rows, present
from clip_search.index.milvus.rows import MilvusRows
from clip_search.storage.filters.milvus import filterable, stored
from clip_search.storage.table import Table

_CHUNK = 8_192  # rows whose columns are read from the table at once
_SAMPLE = 32  # rows whose vectors are compared


class Filling:
    """One tower's rows of a table, and the collection in Milvus that is derived from them."""

    def __init__(self, table: Table, tower: Tower, milvus: MilvusRows) -> None:
        self._table, self._tower, self._milvus = table, tower, milvus

    def last(self) -> int:
        """Return the table's last row; -1 if none."""
        return _last(self._table.rows(self._tower))

    def compared(self) -> tuple[Rows, Rows, int]:
        """Return the rows that Milvus lacks, those that it has too much, and the last that it has; -1 if none.

        It lacks all of them if a sample of vectors shows others there: the table was another's, or an older one, for a while.
        """
        wanted = self._table.rows(self._tower)
        there = self._milvus.numbers(_last(wanted))
        both = np.intersect1d(wanted, there)
        missing = np.setdiff1d(wanted, there) if self._are_same(both) else wanted
        return missing, np.setdiff1d(there, wanted), _last(there)

    def fill(self, missing: Rows, tell: Callable[[int, int], None]) -> None:
        """Send rows of the table; ``tell`` hears how many of how many are sent."""
        done = 0
        for rows, vectors in self._vectors(missing):
            self.put(rows, vectors, anew=True)
            done += len(rows)
            tell(done, len(missing))

    def put(self, rows: Rows, vectors: Floats, *, anew: bool) -> None:
        """Send rows with these vectors, and their columns from the table; ``anew`` for rows that may be there already."""
        for start in range(0, len(rows), _CHUNK):
            part = slice(start, start + _CHUNK)
            self._milvus.put(rows[part], vectors[part], self._columns(rows[part]), anew=anew)

    def newest(self, most: int, last: int) -> tuple[Rows, Floats, int]:
        """Return all rows if they are at most so many, else the ``last``, with their vectors, and the greatest row."""
        rows = self._table.rows(self._tower)
        greatest = _last(rows)
        rows = rows if len(rows) <= most else rows[-last:]
        parts = list(self._vectors(rows))
        if not parts:
            return rows[:0], np.empty((0, 0), np.float32), greatest
        rows, vectors = (np.concatenate([part[n] for part in parts]) for n in (0, 1))
        order = np.argsort(rows)
        return rows[order], vectors[order], greatest

    def _vectors(self, rows: Rows) -> Iterator[tuple[Rows, Floats]]:
        """Yield those of some rows (ascending) that are in the table, with their vectors, in batches."""
        if len(rows):
            for batch, vectors in self._table.vectors(self._tower, int(rows[0]), int(rows[-1])):
                if (here := present(rows, batch)).any():
                    yield batch[here], vectors[here]

    def _columns(self, rows: Rows) -> list[Mapping[str, Any]]:
        names = filterable(self._table.schema)
        if not names:
            return [{}] * len(rows)
        by_row = self._table.get(rows.tolist(), names)
        none: dict[str, Any] = {}
        given = (by_row.get(row, none).items() for row in rows.tolist())
        return [{name: value for name, one in own if (value := stored(one)) is not None} for own in given]

    def _are_same(self, rows: Rows) -> bool:
        """Tell if Milvus has the table's vectors of some of these rows."""
        draw = np.random.default_rng(0)
        sample = np.sort(draw.choice(rows, min(_SAMPLE, len(rows)), replace=False)) if len(rows) else rows
        ours = self._table.vectors_of(self._tower, sample.tolist())
        theirs = self._milvus.vectors(sample) if len(sample) else {}
        return all(np.allclose(theirs.get(row, np.nan), vector, atol=1e-5) for row, vector in ours.items())


def _last(rows: Rows) -> int:
    return int(rows[-1]) if len(rows) else -1
