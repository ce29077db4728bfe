"""Recall of a collection in Milvus: measured on text queries beside exact search, and noted beside the database."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from clip_client.spec import Tower
from clip_search.arrays import Floats, Positions
from clip_search.index.faiss_index import VectorIndex
from clip_search.index.kinds import UNTUNED
from clip_search.index.milvus.exact import exact_of_many
from clip_search.index.milvus.rows import MilvusRows
from clip_search.index.tuning import AT, ENOUGH, QUERIES, Source, Tuned, made_of, tuned
from clip_search.storage import derived_files
from clip_search.storage.table import Table


@dataclass(frozen=True)
class Measured:
    """Outcome of tuning, and the number of rows that it is of."""

    tuned: Tuned
    rows: int


@dataclass(frozen=True)
class _Searched:
    """Collection in the form that tuning takes: a graph whose rows are its positions."""

    table: Table
    tower: Tower
    milvus: MilvusRows
    last: int
    rows: int
    kind: Literal["hnsw"] = "hnsw"

    def __len__(self) -> int:
        return self.rows

    def exact_of_many(self, queries: Floats, k: int) -> tuple[None, Positions]:
        """Return the nearest rows by the table's vectors."""
        return None, exact_of_many(self.table, self.tower, queries, k, self.last)

    def search(self, queries: Floats, k: int, effort: int) -> tuple[None, Positions]:
        """Return the nearest rows by the server."""
        return None, self.milvus.nearest_of_many(queries, k, effort)

    def made(self) -> Floats:
        """Return queries made of stored vectors, for want of texts."""
        rows = self.table.rows(self.tower)
        some = np.sort(np.random.default_rng(0).choice(rows, min(QUERIES, len(rows)), replace=False))
        near = [each[each >= 0] for each in self.search(self.table.matrix_of(self.tower, some), AT, UNTUNED)[1]]
        every = np.unique(np.concatenate(near))
        vectors = self.table.matrix_of(self.tower, every)
        return made_of([vectors[np.searchsorted(every, each)] for each in near if len(each)])


def measured(table: Table, tower: Tower, milvus: MilvusRows, on: tuple[Floats, Source, float, int, int]) -> Measured:
    """Find the least effort that reaches a recall; ``on``: queries [Q, D], their source, the recall, the last row, the rows."""
    queries, source, target, last, rows = on
    searched = _Searched(table, tower, milvus, last, rows)
    if len(queries) < ENOUGH and rows >= AT:
        queries, source = searched.made(), "made"
    return Measured(tuned(cast(VectorIndex, searched), queries, source, target), rows)


def save(folder: Path, table: str, outcome: Measured) -> None:
    """Note the outcome for the next opening."""
    derived_files.make_folder(folder)
    derived_files.write_manifest(folder, {"table": table, "measured": asdict(outcome)})


def loaded(folder: Path, table: str) -> Measured | None:
    """Return what was noted; None if nothing was, or it can't be read."""
    try:
        content: Any = derived_files.read_manifest(folder, table, {"measured": None})["measured"]
        return Measured(Tuned(**content["tuned"]), int(content["rows"])) if content else None
    except (derived_files.Damaged, TypeError, KeyError, ValueError):
        return None
