"""Rows of a folder as record batches of a collection: ids, vectors, sources, thumbnails, and columns of its kinds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from clip_client.embedded_files import FOLDERS
from clip_client.spec import Tower
from clip_search.arrays import Mask
from clip_search.imports.chunks import Chunk, Vectors
from clip_search.imports.columns import ForeignColumns
from clip_search.imports.values import is_string, values
from clip_search.storage.schema import tower_column

Reasons = list[tuple[str, str]]
"""Items with the reason for each."""

_SOURCES = ("image_path", "url")
_LONGEST_SOURCE = 4096  # PATH_MAX of Linux
_NO_DIRECTION = "NaN, infinity or length 0"


class Batch:
    """Rows of a chunk that have a vector, and the reasons why others haven't.

    Attributes:
        rows: columns ``id``, ``source``, ``thumbnail``, ``vector_image``, ``vector_text`` and the user's; as few as are needed.
        left_out: rows without a vector.
        notes: rows that go in without one of theirs.
    """

    def __init__(self, chunk: Chunk, columns: ForeignColumns, prefix: str) -> None:
        self._chunk, self._prefix = chunk, prefix
        self.left_out: Reasons = []
        self.notes: Reasons = []
        directed = {tower: vectors.have_direction() for tower, vectors in chunk.vectors.items()}
        keep = np.any([*directed.values(), np.zeros(len(chunk.numbers), bool)], axis=0)
        self._tell(directed, keep)
        self._positions = np.flatnonzero(keep)
        self.rows = self._kept(self._made(columns, directed)) if len(self._positions) else None

    def name(self, position: int) -> str:
        """Return the name of one of ``rows`` in messages."""
        return row_name(self._chunk.id(int(self._positions[position])))

    def _kept(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        return rows if len(self._positions) == len(rows) else rows.take(pa.array(self._positions))

    def _tell(self, directed: dict[Tower, Mask], keep: Mask) -> None:
        """Note the rows that lack a vector."""
        lacking = {tower: self._chunk.vectors[tower].there & ~good for tower, good in directed.items()}
        some = np.any([*lacking.values(), ~keep], axis=0)
        for position in np.flatnonzero(some).tolist():
            bad = ", ".join(f"{FOLDERS[tower]} has {_NO_DIRECTION} there" for tower in lacking if lacking[tower][position])
            name = row_name(self._chunk.id(position))
            if keep[position]:
                self.notes.append((name, f"{bad}: the row goes in without"))
            else:
                self.left_out.append((name, bad or "has no vector"))

    def _made(self, columns: ForeignColumns, directed: dict[Tower, Mask]) -> pa.RecordBatch:
        chunk = self._chunk
        ids = [f"{self._prefix}{chunk.id(position)}" for position in range(len(chunk.numbers))]
        made: dict[str, pa.Array] = {"id": pa.array(ids, pa.string())}
        if chunk.metadata is not None:
            made["source"] = pa.array(_sources(chunk.metadata), pa.string())
        for tower, vectors in chunk.vectors.items():
            made[tower_column(tower)] = _listed(vectors, directed[tower])
        if chunk.thumbnails and "image" in directed:
            pictures = [small if good else None for small, good in zip(chunk.thumbnails, directed["image"], strict=True)]
            made["thumbnail"] = pa.array(pictures, pa.binary())
        if chunk.metadata is not None:
            own = columns.arrays(chunk.metadata)
            if (own_id := columns.name("id")) in own:
                own[own_id] = _other_than(own[own_id], ids)
            made |= own
        return pa.RecordBatch.from_arrays([*made.values()], [*made])


def row_name(row: str) -> str:
    """Return the name of a row in messages."""
    return f"row {row}"


def _listed(vectors: Vectors, good: Mask) -> pa.Array:
    """Return vectors as a column, with nulls for those that aren't good."""
    size = vectors.matrix.shape[1]
    flat = pa.array(np.ascontiguousarray(vectors.matrix).ravel())  # [n, D] -> [n * D]
    return pa.FixedSizeListArray.from_arrays(flat, type=pa.list_(pa.float32(), size), mask=pa.array(~good))


def _other_than(own: pa.Array, ids: Sequence[str]) -> pa.Array:
    """Return a column of the folder's own ids, null where one is the row's id anyway."""
    if not is_string(own.type):
        return own
    return pa.array([None if value == id else value for value, id in zip(own.to_pylist(), ids, strict=True)], own.type)


def _sources(batch: pa.RecordBatch) -> list[str | None]:
    """Return the path or URL of each row; a key of a shard only where there is no URL beside it."""
    names = [name for name in _SOURCES if batch.schema.names.count(name) == 1 and is_string(batch.schema.field(name).type)]
    texts = [values(batch.column(name), "string", Counter()) for name in names]
    rows = zip(*texts, strict=True) if texts else [()] * len(batch)
    return [_source([text for text in row if text and len(text) <= _LONGEST_SOURCE]) for row in rows]


def _source(places: Sequence[str]) -> str | None:
    return next((place for place in places if place.startswith("/") or "://" in place), next(iter(places), None))
