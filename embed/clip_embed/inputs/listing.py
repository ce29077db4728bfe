"""Items that are listed while planning: written part by part to files, so that memory holds one part at a time."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from clip_client.file_names import as_source, source_path
from clip_embed.chunks import ROWS, Chunk, Picture, no_columns, text_of
from clip_embed.inputs import lists
from clip_embed.inputs.base import PartOf
from clip_embed.places import Place

_MOST_BYTES = 2**26  # of a part's rows, so that a list of encoded pictures stays small
_FIXED = pa.schema(
    [
        *((name, pa.string()) for name in ("name", "picture")),
        ("content", pa.binary()),
        *((name, pa.string()) for name in ("text", "problem", "note")),
    ]
)

Own = TypeVar("Own")


class Item(NamedTuple):
    """Row of a table, or line of a list."""

    name: str
    picture: Picture | None = None
    text: str | None = None
    problem: str | None = None
    note: str | None = None


@dataclass
class Listing(Generic[Own]):
    """Writer of items.

    Attributes:
        part_items: most items of a part.
        columns: turns the own columns of some rows into arrays, as many as there are so far.
    """

    part_items: int
    columns: Callable[[Sequence[Own]], list[pa.Array]]
    parts: int = 0
    _items: list[Item] = field(default_factory=list)
    _own: list[Own] = field(default_factory=list)
    _bytes: int = 0

    def __post_init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="listing-")

    def add(self, item: Item, own: Own, size: int) -> None:
        """Take an item; ``size`` is about its bytes."""
        self._items.append(item)
        self._own.append(own)
        self._bytes += size
        if len(self._items) == self.part_items or self._bytes >= _MOST_BYTES:
            self._flush()

    def tables(self, fit: Callable[[list[pa.ChunkedArray]], list[Any]]) -> Iterator[pa.Table]:
        """Yield the parts, own columns in their final types; each is removed behind it."""
        with self._folder as folder:
            for number in range(self.parts):
                file = Path(folder) / f"{number}.parquet"
                table = pq.read_table(file)
                own = fit(table.columns[len(_FIXED) :])
                yield _table([*table.columns[: len(_FIXED)], *own])
                file.unlink()

    def end(self) -> list[PartOf]:
        """Write the last items; return all parts."""
        if self._items:
            self._flush()
        return [{lists.NUMBER: number} for number in range(self.parts)]

    def _flush(self) -> None:
        fixed = [
            pa.array([item.name for item in self._items], pa.string()),
            pa.array([as_source(item.picture) if isinstance(item.picture, str) else None for item in self._items], pa.string()),
            pa.array([item.picture if isinstance(item.picture, bytes) else None for item in self._items], pa.binary()),
            *(pa.array([getattr(item, name) for item in self._items], pa.string()) for name in ("text", "problem", "note")),
        ]
        pq.write_table(_table([*fixed, *self.columns(self._own)]), Path(self._folder.name) / f"{self.parts}.parquet")
        self.parts += 1
        self._items, self._own, self._bytes = [], [], 0


def _table(columns: Sequence[Any]) -> pa.Table:
    """Return a table whose own columns have numbers as names, since their own ones may clash."""
    return pa.table(list(columns), [*_FIXED.names, *(f"own.{n}" for n in range(len(columns) - len(_FIXED)))])


def listed_chunks(part: PartOf, schema: pa.Schema, place: Place) -> Iterator[Chunk]:
    """Read a part that was listed."""
    for batch in lists.load(place, part).to_batches(max_chunksize=ROWS):
        name, picture, content, text, problem, note = (batch.column(n).to_pylist() for n in range(len(_FIXED)))
        pictures = [source_path(path) if path is not None else body for path, body in zip(picture, content, strict=True)]
        own = batch.columns[len(_FIXED) :]
        yield Chunk(
            name,
            pictures,
            [text_of(value) for value in text],
            pa.RecordBatch.from_arrays(own, schema=schema) if own else no_columns(len(name)),
            {n: reason for n, reason in enumerate(problem) if reason},
            {n: reason for n, reason in enumerate(note) if reason},
        )
