"""Engine protocol and the faiss engine."""

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from clip_client.spec import Tower
from clip_search.arrays import Floats, Found, Rows
from clip_search.index.block_checks import Keeper
from clip_search.index.faiss_index import Kind, VectorIndex, kind_for
from clip_search.index.part import Part
from clip_search.index.snapshot import Index, Snapshot
from clip_search.index.tuning import SOURCES, Source, Tuned, tuned
from clip_search.options import IndexOptions
from clip_search.storage import derived_files
from clip_search.storage.derived_files import Sums
from clip_search.storage.table import Table

_LOG = logging.getLogger(__name__)
_QUERIES = 500  # a standard error of 1 % at a recall of 0.95
_RETUNE_S = 5.0  # pause between two looks for better queries to tune on
_HIDDEN_SHARE = 0.3  # share of hidden rows from which a part is indexed anew

Queries = Callable[[int], "tuple[Floats, Source]"]
"""Source of queries to tune on: n -> at most n vectors [n, D], and where they come from."""


class Engine(Keeper, Protocol):
    """Search over one tower's vectors."""

    def search(self, query: Floats, k: int, where: str, only: Callable[[], Rows | None], *, exactly: bool = False) -> Found:
        """Return the ``k`` nearest to a query [D] among the rows that a filter keeps; ``only`` gives these rows.

        With ``exactly`` each of them is compared, whatever the index.
        """

    def size(self) -> int:
        """Return the number of rows with a vector."""

    def vectors(self, rows: Rows) -> Floats:
        """Return vectors of rows, float32 [n, D]; zeros for a row without one."""

    def check_room(self) -> None:
        """Raise Unavailable if no more rows can be taken in, before they are written to the table."""

    def append(self, rows: Rows, vectors: Floats) -> None:
        """Take in rows that are new in the table."""

    def hide(self, rows: Rows) -> None:
        """Hide rows that are gone from the table."""

    def agree(self) -> None:
        """Bring the engine's rows in line with the table's."""

    def last_row(self) -> int:
        """Return the greatest row number that the engine has seen; -1 if none."""

    def maintain(self, patience: int) -> bool:
        """Index new rows once they are ``patience`` times as many as are worth it; tell if anything was done."""

    def rebuild(self) -> None:
        """Index everything anew."""

    def discard(self) -> None:
        """Remove what is kept outside of this machine, of a collection that was dropped."""

    def stats(self) -> dict[str, Any]:
        """Return kind, size and recall of the index, ready for JSON."""


class FaissEngine:
    """Engine with faiss in memory, derived from the table and saved beside it; :meth:`agree` comes first."""

    def __init__(self, table: Table, tower: Tower, folder: Path, size: int, options: IndexOptions, queries: Queries) -> None:
        self._table, self._tower, self._folder, self._options, self._queries = table, tower, folder, options, queries
        self._building = threading.Lock()
        self._retune_at = 0.0
        parts, self._last, self._unsaved = _loaded(folder, table.identity)
        self._manifest = derived_files.manifest_sums(folder)
        self.index = Index(size, parts)

    def search(self, query: Floats, k: int, where: str, only: Callable[[], Rows | None], *, exactly: bool = False) -> Found:
        return self.index.search(query, k, only(), exactly=exactly)

    def size(self) -> int:
        return len(self.index)

    def vectors(self, rows: Rows) -> Floats:
        return self.index.vectors(rows)

    def check_room(self) -> None:
        pass  # memory grows with the rows

    def append(self, rows: Rows, vectors: Floats) -> None:
        self.index.append(rows, vectors)

    def hide(self, rows: Rows) -> None:
        self.index.hide(rows)

    def agree(self) -> None:
        rows = self._table.rows(self._tower)
        missing = self.index.agree(rows)
        if len(missing) and missing[0] <= self.index.snapshot.last:  # the table is older: rows are back in the middle
            self.index.forget(int(missing[0]))
            missing = self.index.agree(rows)
        if len(missing):
            self.index.append(*self._table_vectors(missing))

    def last_row(self) -> int:
        return max(self._last, self.index.snapshot.boundary)

    def maintain(self, patience: int) -> bool:
        worked = self._indexed(patience)
        if self._unsaved:
            with self._building:
                self._save()
        return worked

    def _indexed(self, patience: int) -> bool:
        now = self.index.snapshot
        if any(part.makeshift or part.dead > _HIDDEN_SHARE * len(part.rows) for part in now.parts):
            self.rebuild()
        elif now.tail.count - now.tail.dead > self._options.tail_rows * patience:
            self._build(_start(now), now.last)
        else:
            return self._retune(now)
        return True

    def rebuild(self) -> None:
        self._build(0, self.index.snapshot.last)

    def files(self) -> dict[Path, Sums]:
        saved = ((part.folder, part.files) for part in self.index.snapshot.parts if part.folder)
        return {folder / name: sums for folder, files in saved for name, sums in files.items()} | self._manifest

    def distrust(self, path: Path, why: str) -> None:
        """Write the files of a part anew; index its rows anew if memory doesn't match their checksums either."""
        with self._building:
            if path not in self.files():
                return  # another has taken its place
            self._unsaved = True
            part = next((part for part in self.index.snapshot.parts if part.folder == path.parent), None)
            if part is None or part.is_intact():
                _LOG.warning("%s: it is written again, searches didn't see it", why)
            else:
                _LOG.warning("%s, nor is what is in memory: searched exactly until it is indexed again", why)
                part = self._replaced(part)
            if part:
                part.folder = None

    def discard(self) -> None:
        pass  # all is in the folder

    def stats(self) -> dict[str, Any]:
        now = self.index.snapshot
        return {
            "engine": "faiss",
            "rows": len(self.index),
            "parts": [
                {"kind": part.index.kind, "rows": len(part.rows), "hidden": part.dead, **vars(part.tuned)} for part in now.parts
            ],
            "tail_rows": now.tail.count,
            "recall": recall(now),
            "recall_target": self._options.recall_target,
        }

    def _build(self, first: int, last: int) -> None:
        """Index the rows from ``first`` to ``last`` in one part, and swap it in."""
        with self._building:
            count = int(np.count_nonzero((rows := self._table.rows(self._tower)) >= first) - np.count_nonzero(rows > last))
            if count:
                part = self._part(rows[(rows >= first) & (rows <= last)])
                self.index.replace(part, first=first)
            else:
                self.index.clear(last)
            self._unsaved = True
            self._save()

    def _save(self) -> None:
        """Write the parts that have no files, name all that count in one step, remove the others."""
        derived_files.make_folder(self._folder)
        now = self.index.snapshot
        for part in now.parts:
            if not part.folder:
                part.save(self._folder / f"part-{uuid.uuid4().hex[:12]}")
        about = {part.folder.name: part.about() for part in now.parts if part.folder}
        self._last = self.last_row()
        derived_files.write_manifest(self._folder, {"table": self._table.identity, "last": self._last, "parts": about})
        self._manifest = derived_files.manifest_sums(self._folder)
        self._unsaved = False
        derived_files.remove_others(self._folder, set(about))

    def _part(self, rows: Rows) -> Part:
        exact_rows, memory_bytes = self._options.exact_rows, self._options.memory_bytes
        kind = kind_for(len(rows), self.index.size, exact_rows=exact_rows, memory_bytes=memory_bytes)
        sample = np.random.default_rng(0).choice(rows, VectorIndex.training_rows(kind, len(rows)), replace=False)
        return self._built(kind, rows, self.index.vectors(np.sort(sample)))

    def _built(self, kind: Kind, rows: Rows, sample: Floats) -> Part:
        """Index rows of the table, trained on a sample [m, D]."""
        order: list[Rows] = []
        chunks = self._chunks(int(rows[0]), int(rows[-1]), order)
        index = VectorIndex.build(kind, self.index.size, len(rows), chunks, sample, self._options.threads)
        return Part.of(index, np.concatenate(order), self._tune(index))

    def _chunks(self, first: int, last: int, order: list[Rows]) -> Iterator[Floats]:
        """Yield the vectors of a range in the table's order, and note that order."""
        for rows, vectors in self._table.vectors(self._tower, first, last):
            order.append(rows)
            yield vectors

    def _replaced(self, part: Part) -> Part | None:
        """Replace a part by an exact one from the table; None if no rows of it are left."""
        rows = self._table.rows(self._tower)
        rows = rows[(rows >= part.first) & (rows <= part.last)]
        exact = None
        if len(rows):
            exact = self._built("flat", rows, np.empty((0, 0), np.float32))
            exact.makeshift = True
        self.index.exchange(part, exact)
        return exact

    def _tune(self, index: VectorIndex) -> Tuned:
        queries, source = self._queries(_QUERIES)
        return tuned(index, queries, source, self._options.recall_target)

    def _retune(self, now: Snapshot) -> bool:
        """Tune parts again once better queries are known than they were tuned on."""
        waiting = [part for part in now.parts if part.index.kind != "flat" and part.tuned.source != SOURCES[-1]]
        if not waiting or time.monotonic() < self._retune_at:
            return False
        self._retune_at = time.monotonic() + _RETUNE_S
        best = SOURCES.index(self._queries(_QUERIES)[1])
        waiting = [part for part in waiting if SOURCES.index(part.tuned.source) < best]
        for part in waiting:
            part.tuned, self._unsaved = self._tune(part.index), True
        return bool(waiting)

    def _table_vectors(self, rows: Rows) -> tuple[Rows, Floats]:
        """Return rows with their vectors from the table, by row."""
        vectors = np.empty((len(rows), self.index.size), np.float32)
        for batch, values in self._table.vectors(self._tower, int(rows[0]), int(rows[-1])):
            here = np.isin(batch, rows)
            vectors[np.searchsorted(rows, batch[here])] = values[here]
        return rows, vectors


def recall(now: Snapshot) -> float | None:
    """Return the recall over all rows, the tail's being exact; None while a part hasn't been measured."""
    if any(part.index.kind != "flat" and not part.tuned.queries for part in now.parts):
        return None
    sizes = [(len(part.rows), part.tuned.recall) for part in now.parts] + [(now.tail.count, 1.0)]
    rows = sum(size for size, _ in sizes)
    return round(sum(size * reached for size, reached in sizes) / rows, 4) if rows else 1.0


def _start(now: Snapshot) -> int:
    """Return the first row of the next part: the tail's, or an earlier part's that isn't larger than all after it.

    So each row is indexed anew only when what it lies in doubles.
    """
    first, rows = int(now.tail.rows[0]), now.tail.count
    for part in reversed(now.parts):
        if len(part.rows) > rows:
            break
        first, rows = part.first, rows + len(part.rows)
    return first


def _loaded(folder: Path, table: str) -> tuple[tuple[Part, ...], int, bool]:
    """Return the parts of a saved index, the last row that it has seen, and whether it must be saved again.

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
    return tuple(parts), content["last"], False
