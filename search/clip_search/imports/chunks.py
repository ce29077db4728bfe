"""Rows of a folder as an import takes them, whatever format they have there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import pyarrow as pa

from clip_client.spec import Tower
from clip_search.arrays import Floats, Mask

TOGETHER = 2_000  # rows that are read, and sent, at once
BUFFER_BYTES = 2**20  # of a column of a parquet file: without it, whole row groups are read at once
_LEAST_SQUARE = 1e-24  # of a length that is told from 0


@dataclass(frozen=True)
class Vectors:
    """Vectors of rows.

    Attributes:
        matrix: float32 [n, D].
        there: bool [n]; False for a row that is known to have none.
    """

    matrix: Floats
    there: Mask

    def have_direction(self) -> Mask:
        """Tell which rows have a vector of finite numbers and a length, bool [n]."""
        with np.errstate(over="ignore", invalid="ignore"):
            squares = np.einsum("ij,ij->i", self.matrix, self.matrix)  # [n, D] -> [n]
        return np.asarray(self.there & np.isfinite(squares) & (squares >= _LEAST_SQUARE))


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
