"""Rows of a folder as an import takes them, whatever format they have there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa

from clip_client.spec import Tower
from clip_search.arrays import Floats

TOGETHER = 2_000  # rows that are read, and sent, at once

Vectors = Sequence[Floats | None]
"""Vectors of rows, float32 [D] each; None for a row that is known to have none."""


@dataclass(frozen=True)
class Chunk:
    """Some rows.

    Attributes:
        numbers: of the rows; none where it can't be told how many a file has, which then has a name here.
        vectors: of each tower.
        metadata: a batch of as many rows; None if there is none.
        problem: the reason why they can't be read.
        origin: of the numbers: the run and its part; empty where rows are numbered through.
        thumbnails: encoded pictures, none or one for each row.
    """

    numbers: Sequence[int]
    vectors: dict[Tower, Vectors] = field(default_factory=dict)
    metadata: pa.RecordBatch | None = None
    problem: str = ""
    origin: str = ""
    thumbnails: Sequence[bytes | None] = ()
    name: str = ""

    def id(self, position: int) -> str:
        """Return the id of a row, without the user's prefix."""
        return f"{self.origin}{self.numbers[position]}"


class Source(Protocol):
    """Folder of vectors and metadata."""

    @property
    def size(self) -> int:
        """Size D of the vectors."""

    @property
    def rows(self) -> int:
        """Number of all rows, readable or not."""

    def schemas(self) -> list[pa.Schema]:
        """Return the schemas of readable metadata."""

    def chunks(self) -> Iterator[Chunk]:
        """Yield all rows, in order."""


def origin(run: str, part: str) -> str:
    """Return what stands in front of the number of a row in its part."""
    return f"{run}-{part}-" if run else f"{part}-"
