"""What a collection asks of an engine, and the two that there are."""

from __future__ import annotations

import json
import logging
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from clip_client.spec import Tower
from clip_search.faiss_index import Floats, VectorIndex, kind_for
from clip_search.index import Index, Snapshot
from clip_search.options import IndexOptions
from clip_search.part import Found, Part, Rows
from clip_search.table import Table
from clip_search.tuning import SOURCES, Source, Tuned, tuned

_LOG = logging.getLogger(__name__)
_CURRENT = "current.json"
_QUERIES = 500
_RETUNE_S = 5.0
"""Pause between two looks for better queries to tune on."""
_HIDDEN_SHARE = 0.3
"""All is indexed anew once so much of a part is hidden."""

Queries = Callable[[int], "tuple[Floats, Source]"]
"""Asked for n queries [n, D] to tune on; may give fewer."""


class Engine(Protocol):
    """Nearest rows of one tower's vectors."""

    def search(self, query: Floats, k: int, where: str, only: Callable[[], Rows | None]) -> Found:
        """The ``k`` nearest to a query [D] among the rows that a filter keeps; ``only`` gives these rows."""

    def size(self) -> int:
        """How many rows have a vector."""

    def vectors(self, rows: Rows) -> Floats:
        """Vectors of rows, float32 [n, D]; zeros where a row has none."""

    def append(self, rows: Rows, vectors: Floats) -> None:
        """New rows are in the table."""

    def hide(self, rows: Rows) -> None:
        """Rows are gone from the table."""

    def maintain(self, patience: int) -> bool:
        """Index what has no index yet, once it is ``patience`` times as much as is worth it; whether anything was done."""

    def rebuild(self) -> None:
        """Index everything anew."""

    def stats(self) -> dict[str, Any]:
        """How the vectors are searched."""


class FaissEngine:
    """faiss in memory, derived from the table and saved beside it."""

    def __init__(self, table: Table, tower: Tower, folder: Path, size: int, options: IndexOptions, queries: Queries) -> None:
        self._table, self._tower, self._folder, self._options, self._queries = table, tower, folder, options, queries
        self._building = threading.Lock()
        self._retune_at = 0.0
        self.index = Index(size, _loaded(folder))
        self._catch_up()

    def search(self, query: Floats, k: int, where: str, only: Callable[[], Rows | None]) -> Found:
        return self.index.search(query, k, only())

    def size(self) -> int:
        return len(self.index)

    def vectors(self, rows: Rows) -> Floats:
        return self.index.vectors(rows)

    def append(self, rows: Rows, vectors: Floats) -> None:
        self.index.append(rows, vectors)

    def hide(self, rows: Rows) -> None:
        self.index.hide(rows)

    def maintain(self, patience: int) -> bool:
        now = self.index.snapshot
        if any(part.dead > _HIDDEN_SHARE * len(part.rows) for part in now.parts):
            self.rebuild()
        elif now.tail.count > self._options.tail_rows * patience:
            self._build(_start(now), int(now.tail.rows[now.tail.count - 1]))
        else:
            return self._retune(now)
        return True

    def rebuild(self) -> None:
        now = self.index.snapshot
        self._build(0, int(now.tail.rows[now.tail.count - 1]) if now.tail.count else now.boundary)

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
            version = self._table.version
            count = int(np.count_nonzero((rows := self._table.rows(self._tower)) >= first) - np.count_nonzero(rows > last))
            if count:
                part = self._part(rows[(rows >= first) & (rows <= last)])
                self.index.replace(part, first=first)
                part.save(self._folder / f"part-{uuid.uuid4().hex[:12]}")
            else:
                self.index.clear(last)
            _list(self._folder, self.index.snapshot, version)

    def _part(self, rows: Rows) -> Part:
        options, size = self._options, self.index.size
        kind = kind_for(len(rows), size, exact_rows=options.exact_rows, memory_bytes=options.memory_bytes)
        sample = np.random.default_rng(0).choice(rows, VectorIndex.training_rows(kind, len(rows)), replace=False)
        order: list[Rows] = []
        chunks = self._chunks(int(rows[0]), int(rows[-1]), order)
        index = VectorIndex.build(kind, size, len(rows), chunks, self.index.vectors(np.sort(sample)), options.threads)
        return Part.of(index, np.concatenate(order), self._tune(index))

    def _chunks(self, first: int, last: int, order: list[Rows]) -> Iterator[Floats]:
        """The vectors of a range, in the table's order, which is noted."""
        for rows, vectors in self._table.vectors(self._tower, first, last):
            order.append(rows)
            yield vectors

    def _tune(self, index: VectorIndex) -> Tuned:
        queries, source = self._queries(_QUERIES)
        return tuned(index, queries, source, self._options.recall_target)

    def _retune(self, now: Snapshot) -> bool:
        """Parts are tuned again once there are better queries than they were tuned on."""
        waiting = [part for part in now.parts if part.index.kind != "flat" and part.tuned.source != SOURCES[-1]]
        if not waiting or time.monotonic() < self._retune_at:
            return False
        self._retune_at = time.monotonic() + _RETUNE_S
        best = SOURCES.index(self._queries(_QUERIES)[1])
        waiting = [part for part in waiting if SOURCES.index(part.tuned.source) < best]
        for part in waiting:
            part.tuned = self._tune(part.index)
            part.save_tuned()
        return bool(waiting)

    def _catch_up(self) -> None:
        """Take in what the table knows and the saved index doesn't."""
        rows = self._table.rows(self._tower)
        for part in self.index.snapshot.parts:
            part.hide(np.setdiff1d(part.rows, rows, assume_unique=True))
        known = [part.rows for part in self.index.snapshot.parts]
        missing = np.setdiff1d(rows, np.concatenate([np.empty(0, np.int64), *known]), assume_unique=True)
        if len(missing):
            self.index.append(*self._table_vectors(missing))

    def _table_vectors(self, rows: Rows) -> tuple[Rows, Floats]:
        """Rows and their vectors from the table, by row."""
        vectors = np.empty((len(rows), self.index.size), np.float32)
        for batch, values in self._table.vectors(self._tower, int(rows[0]), int(rows[-1])):
            here = np.isin(batch, rows)
            vectors[np.searchsorted(rows, batch[here])] = values[here]
        return rows, vectors


def recall(now: Snapshot) -> float | None:
    """What was reached, over all rows, the tail being exact; None while a part hasn't been measured."""
    if any(part.index.kind != "flat" and not part.tuned.queries for part in now.parts):
        return None
    sizes = [(len(part.rows), part.tuned.recall) for part in now.parts] + [(now.tail.count, 1.0)]
    rows = sum(size for size, _ in sizes)
    return round(sum(size * reached for size, reached in sizes) / rows, 4) if rows else 1.0


def _start(now: Snapshot) -> int:
    """Where the next part begins: at the tail, or further back while the part before isn't larger than what comes after it.

    So each row is indexed anew only when what it lies in doubles.
    """
    first, rows = int(now.tail.rows[0]), now.tail.count
    for part in reversed(now.parts):
        if len(part.rows) > rows:
            break
        first, rows = part.first, rows + len(part.rows)
    return first


def _list(folder: Path, now: Snapshot, version: int) -> None:
    """Name the parts that count, in one step; remove the others."""
    names = [part.folder.name for part in now.parts if part.folder]
    new = folder / f"{_CURRENT}.new"
    new.write_text(json.dumps({"table_version": version, "parts": names}), encoding="utf-8")
    new.replace(folder / _CURRENT)
    for other in folder.glob("part-*"):
        if other.name not in names:
            shutil.rmtree(other, ignore_errors=True)


def _loaded(folder: Path) -> tuple[Part, ...]:
    """The parts of a saved index; none where it is broken, since it can be built again."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        names = json.loads((folder / _CURRENT).read_text(encoding="utf-8"))["parts"]
        return tuple(Part.load(folder / name) for name in names)
    except FileNotFoundError:
        return ()
    except Exception as problem:  # faiss and numpy raise anything for a broken file
        _LOG.warning("the index in %s can't be read (%s): it is built again", folder, problem)
        return ()
