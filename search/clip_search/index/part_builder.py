"""Builds of parts from a table, with little memory: vectors pass by in batches, and large parts are written as they come."""

from __future__ import annotations

import logging
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from clip_client.spec import Tower
from clip_search.arrays import Floats, Rows, present
from clip_search.index import mapped_index
from clip_search.index.faiss_index import VectorIndex, write_flat
from clip_search.index.kinds import RERANKED, Kind, kinds_for, training_rows
from clip_search.index.part import Part, Tail, write_files
from clip_search.index.saved_queries import SavedQueries
from clip_search.index.tuning import ENOUGH, QUERIES, SOURCES, Queries, Source, Tuned, made, tuned
from clip_search.options import IndexOptions
from clip_search.storage import derived_files
from clip_search.storage.table import Table

_LOG = logging.getLogger(__name__)


class PartBuilder:
    """Builder of the parts of one tower's index, in its folder."""

    def __init__(self, table: Table, tower: Tower, folder: Path, options: IndexOptions, queries: Queries) -> None:
        self._table, self._tower, self._folder, self._options, self._queries = table, tower, folder, options, queries
        self.saved = SavedQueries(folder, table.identity)
        self._noting = threading.Lock()  # a tail is sealed while an index is built

    def part(self, first: int, last: int, size: int) -> Part | None:
        """Index the table's rows of a range, in the fastest kind that reaches the target; None if there are none."""
        return self._of_range(first, last, lambda rows: self._of_best_kind(rows, size))

    def exact(self, first: int, last: int) -> Part | None:
        """Index the table's rows of a range in memory, to be compared one by one; None if there are none."""
        return self._of_range(first, last, lambda rows: self.in_memory("flat", rows, np.empty((0, 0), np.float32)))

    def _of_range(self, first: int, last: int, build: Callable[[Rows], Part]) -> Part | None:
        """Index rows that may be deleted while they are read: if that fails since many are gone, those that are left."""
        rows = self._rows(first, last)
        while len(rows):
            try:
                return build(rows)
            except Exception:
                left = self._rows(first, last)
                if len(left) == len(rows):
                    raise
                rows = left
        return None

    def _rows(self, first: int, last: int) -> Rows:
        rows = self._table.rows(self._tower)
        return rows[(rows >= first) & (rows <= last)]

    def _of_best_kind(self, rows: Rows, size: int) -> Part:
        part = None
        for kind in self._kinds(len(rows), size):
            if part and part.folder:
                shutil.rmtree(part.folder, ignore_errors=True)
            part = self._of_kind(kind, rows, size)
            if not part.tuned.is_short:
                break
        assert part is not None  # noqa: S101  (there is a kind)
        return part

    def is_outgrown(self, part: Part) -> bool:
        """Tell if a part misses its target, and a more precise kind is to be had."""
        kinds = self._kinds(len(part.rows), part.index.size)
        return part.tuned.is_short and part.index.kind in kinds[:-1]

    def _kinds(self, rows: int, size: int) -> tuple[Kind, ...]:
        options = self._options
        kinds = kinds_for(rows, size, exact_rows=options.exact_rows, memory_bytes=options.memory_bytes)
        small = rows * size * 4 <= options.mapped_bytes
        return tuple(kind for kind in kinds if kind not in RERANKED) or kinds if small else kinds

    def _of_kind(self, kind: Kind, rows: Rows, size: int) -> Part:
        drawn = training_rows(kind, len(rows), size, self._options.memory_bytes)
        chosen = np.sort(np.random.default_rng(0).choice(rows, drawn, replace=False))
        if kind in RERANKED or (kind != "flat" and len(rows) * size * 4 > self._options.mapped_bytes):
            return self._in_files(kind, rows, lambda: self.vectors(chosen, size)[1])
        return self.in_memory(kind, rows, self.vectors(chosen, size)[1])

    def in_memory(self, kind: Kind, rows: Rows, sample: Floats) -> Part:
        """Index rows of the table in memory, trained on a sample [m, D]."""
        order: list[Rows] = []
        chunks = self._chunks(int(rows[0]), int(rows[-1]), order)
        index = VectorIndex.build(kind, self._table.vector_size(self._tower), len(rows), chunks, sample, self._options.threads)
        return Part.of(index, np.concatenate(order), self.tune(index))

    def sealed(self, tail: Tail, count: int) -> Part:
        """Write the first ``count`` rows of a tail to files, which are searched exactly."""
        kept = np.flatnonzero(tail.alive[:count].copy())
        kept = np.union1d(kept, [count - 1])  # the last row stays, hidden or not: it tells how far the index has come
        vectors = tail.matrix[:count] if len(kept) == count else tail.matrix[kept]
        folder = self.new_folder()
        try:
            files = write_files(folder, partial(write_flat, vectors), tail.rows[kept])
            return Part.mapped(folder, "flat", files, Tuned(1, 1.0, self._options.recall_target, 0, "vectors"))
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def tune(self, index: VectorIndex) -> Tuned:
        """Find an index's effort by the best queries that there are."""
        queries, source = self._best()
        if not len(queries) and index.kind != "flat" and len(index):
            queries, source = made(index, QUERIES), "made"
        return tuned(index, queries, source, self._options.recall_target)

    def source(self) -> Source:
        """Return where queries would come from now."""
        queries, source = self._best()
        return source if len(queries) else "made"

    def _best(self) -> tuple[Floats, Source]:
        """Return the best queries that there are, saved ones among them; keep them if they are texts."""
        queries, source = self._queries(QUERIES)
        queries, source = (queries, source) if len(queries) >= ENOUGH else (queries[:0], "vectors")
        saved = self.saved.get()
        if saved and SOURCES.index(saved[1]) > SOURCES.index(source):
            return saved
        self.saved.put(queries, source)
        return queries, source

    def vectors(self, rows: Rows, size: int) -> tuple[Rows, Floats]:
        """Return those of the rows (ascending) that are in the table, and their vectors, float32 [n, size], by row."""
        vectors, found = np.empty((len(rows), size), np.float32), np.zeros(len(rows), bool)
        if len(rows):
            for batch, values in self._table.vectors(self._tower, int(rows[0]), int(rows[-1])):
                here = present(rows, batch)
                places = np.searchsorted(rows, batch[here])
                vectors[places], found[places] = values[here], True
        return (rows, vectors) if found.all() else (rows[found], vectors[found])  # some were deleted a moment ago

    def _in_files(self, kind: Kind, rows: Rows, sample: Callable[[], Floats]) -> Part:
        folder = self.new_folder()
        try:
            folder.mkdir()
            chunks = self._table.vectors(self._tower, int(rows[0]), int(rows[-1]))
            files = mapped_index.build(kind, folder, chunks, sample, (len(rows), self._options.threads))
            part = Part.mapped(folder, kind, files, Tuned(1, 0.0, self._options.recall_target, 0, "vectors"))
            part.tuned = self.tune(part.index)
            return part
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def note(self, content: Mapping[str, Any]) -> None:
        """Name what counts, in one step."""
        with self._noting:
            self._write(content)

    def _write(self, content: Mapping[str, Any]) -> None:
        derived_files.write_manifest(self._folder, {"table": self._table.identity, **content})

    def new_folder(self) -> Path:
        """Return the path of a part to be written."""
        with self._noting:
            derived_files.make_folder(self._folder)
            if not (
                self._folder / derived_files.MANIFEST
            ).exists():  # what is killed while it is written is nothing that was lost
                self._write({"last": -1, "parts": {}})
        return self._folder / f"part-{uuid.uuid4().hex[:12]}"

    def _chunks(self, first: int, last: int, order: list[Rows]) -> Iterator[Floats]:
        """Yield the vectors of a range in the table's order, and note that order."""
        for rows, vectors in self._table.vectors(self._tower, first, last):
            order.append(rows.copy())  # a batch's numbers would keep its vectors in memory
            yield vectors


def loaded(folder: Path, table: str) -> tuple[tuple[Part, ...], int, bool]:
    """Return the parts of a saved index, the last row that it has seen, and if it must be saved again.

    Parts after a damaged one are left out too, since rows that are missing can come only after all others.
    """
    try:
        content = derived_files.read_manifest(folder, table, {"parts": {}, "last": -1})
    except derived_files.Damaged as problem:
        _LOG.warning("%s: the index is built again from the table", problem)
        return (), -1, True
    parts: list[Part] = []
    for name, about in content["parts"].items():
        try:
            parts.append(Part.load(folder / name, about))
        except Exception as problem:  # faiss and numpy raise anything for what they can't read
            _LOG.warning("%s: what it held, and what came after it, is indexed again from the table", problem)
            return tuple(parts), content["last"], True
    known = {derived_files.MANIFEST, *content["parts"], (content.get("queries") or {}).get("name")}
    return tuple(parts), content["last"], folder.is_dir() and any(path.name not in known for path in folder.iterdir())
