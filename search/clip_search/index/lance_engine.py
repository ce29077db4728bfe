"""Engine with LanceDB's own index on disk or in an object store, for collections larger than memory."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from clip_client.errors import Unavailable
from clip_client.spec import Tower
from clip_search.arrays import Floats, Found, Rows
from clip_search.index.lance_tuning import UNTUNED, LanceTuned, lance_tuned
from clip_search.index.tuning import AT, ENOUGH, SOURCES, Queries, Source, made_of
from clip_search.options import IndexOptions
from clip_search.storage.derived_files import Sums
from clip_search.storage.table import MOST_ROWS, Table
from clip_search.storage.vector_index import Effort, IndexState, bits_for, sample_rate

_LOG = logging.getLogger(__name__)
_QUERIES = 128  # a standard error of some 0.3 % at a recall of 0.98; each is a search of its own
_RETUNE_S = 5.0  # pause between two looks for better queries to tune on
_GROWN = 1.1  # times the rows at the last tuning from which the recall is measured anew
_BUILT_ANEW = 1.25  # times the rows of the build from which lists are made anew: each list was made for the rows of then
_MOST_SEGMENTS = 200  # each is searched by itself
_HITS_A_LIST = 256  # most hits that are asked of a list on average, an eighth of its vectors
_MOST_REFINED = 4_000  # candidates that are read from the table for a search, beside the k that were asked for


class LanceEngine:
    """Engine that searches the table itself; LanceDB compares rows without an index one by one.

    The index and the note of its tuning lie in the table: whoever reads it searches with the same effort, and knows the same
    recall. Only the table's writer builds and tunes.
    """

    def __init__(self, table: Table, tower: Tower, size: int, options: IndexOptions, queries: Queries) -> None:
        self._table, self._tower, self._size, self._options, self._queries = table, tower, size, options, queries
        self._version = -1  # of the table at the last look
        self._retune_at = self.damaged_at = 0.0  # it keeps no files that could be damaged
        self._stopped = False
        self._count: int | None = None
        self._state: IndexState | None = None
        self._tuned: LanceTuned | None = None
        self._look()

    def search(self, query: Floats, k: int, where: str, only: Callable[[], Rows | None], *, exactly: bool = False) -> Found:
        kept = only() if where and self._state and not exactly else None
        effort = None if exactly or not self._state else self._effort(self._state, k, kept)
        nearest = self._table.nearest(query, self._tower, k, where, effort)
        if effort and len(nearest[1]) < min(k, self.size() if kept is None else len(kept)):
            return self._table.nearest(query, self._tower, k, where, None)  # too few in the lists that were read
        return nearest

    def size(self) -> int:
        count = self._count
        if count is None:
            count = self._count = self._table.count(self._tower)
        return count

    def vectors(self, rows: Rows) -> Floats:
        return self._table.matrix_of(self._tower, rows)

    def check_room(self) -> None:
        pass  # the table says so itself

    def append(self, rows: Rows, vectors: Floats) -> None:
        self._count = None

    def hide(self, rows: Rows) -> None:
        self._count = None

    def agree(self) -> None:
        self._count = None
        self._look()

    def files(self) -> Mapping[Path, Sums]:
        return {}  # LanceDB's files are the table

    def distrust(self, path: Path, why: str) -> None:
        pass  # there are none

    def last_row(self) -> int:
        return -1

    def maintain(self, patience: int) -> bool:
        self._look()
        if self._table.read_only:
            return False
        state = self._state
        if state is None:
            if self.size() <= self._options.exact_rows * patience:
                return False
            self.rebuild()
        elif state.new_rows > self._options.tail_rows * patience:
            self._take_in(state)
        else:
            return self._retune(state)
        return True

    def rebuild(self) -> None:
        if not self._table.read_only and self.size() > self._options.exact_rows:
            rows, memory_bytes = self.size(), self._options.memory_bytes
            bits, sample = bits_for(rows, self._size, memory_bytes), sample_rate(rows, self._size, memory_bytes)
            self._table.index_vectors(self._tower, bits, sample)
            self._look()
            if self._state:
                self._tune(self._state, self._state.rows)

    def discard(self) -> None:
        pass  # it goes with the table

    def stop(self) -> None:
        """End tuning that is under way: LanceDB mustn't be at work when the process ends."""
        self._stopped = True

    def stats(self) -> dict[str, Any]:
        state, tuned = self._state, self._tuned
        measured = tuned if tuned and tuned.queries else None
        return {
            "engine": "lancedb",
            "rows": self.size(),
            "indexed": state is not None,
            "kind": state.kind if state else "exact",
            "indexed_rows": state.rows if state else 0,
            "tail_rows": state.new_rows if state else self.size(),
            "probes": tuned.probes if tuned else None,
            "refine": tuned.refine if tuned else None,
            "queries": tuned.queries if tuned else 0,
            "source": tuned.source if tuned else None,
            "recall": _recall(state, measured),
            "recall_target": self._options.recall_target,
        }

    def _look(self) -> None:
        """Read the state of the index and its tuning, if the table has another version."""
        version = self._table.version
        if version == self._version:
            return
        state = self._table.vector_index(self._tower)
        tuned = LanceTuned.read(self._table.tuning(self._tower)) if state else None
        self._tuned = tuned if state and tuned and tuned.index == state.id else None
        self._state, self._version = state, version

    def _effort(self, state: IndexState, k: int, only: Rows | None) -> Effort | None:
        """Return the effort for ``k`` hits among the rows of a filter; None if these are few enough to be compared each."""
        effort = self._tuned.effort if self._tuned else LanceTuned(state.id, 0, 0).effort
        refine = max(1, min(effort.refine, -(-_MOST_REFINED // k)))
        probes = max(effort.probes, k // _HITS_A_LIST)
        if only is None:
            return Effort(probes, refine)
        if len(only) <= self._options.exact_rows:
            return None
        return Effort(int(probes * max(1.0, self.size() / len(only))), refine)  # as many candidates as without a filter

    def _take_in(self, state: IndexState) -> None:
        """Index new rows: as a segment, or all anew once the build is outgrown."""
        rows = state.rows + state.new_rows
        built = self._tuned.built_rows if self._tuned else state.rows
        if rows > _BUILT_ANEW * built or state.segments >= _MOST_SEGMENTS:
            self.rebuild()
        else:
            self._table.optimize()
            self._look()

    def _retune(self, state: IndexState) -> bool:
        """Tune again an index that was never tuned or has grown, or once better queries are known."""
        tuned = self._tuned
        if time.monotonic() < self._retune_at:
            return False
        self._retune_at = time.monotonic() + _RETUNE_S
        is_grown = tuned is None or state.rows > _GROWN * tuned.rows
        best = SOURCES[-1]
        if not is_grown and tuned and tuned.source == best:
            return False
        queries, source = self._queries(_QUERIES)
        is_better = tuned is None or SOURCES.index(source) > SOURCES.index(tuned.source)
        if is_grown or is_better or (tuned and tuned.target != self._options.recall_target):
            self._tune(state, tuned.built_rows if tuned else state.rows, (queries, source))
            return True
        return False

    def _made(self) -> Floats:
        """Return queries made of stored vectors, for want of texts."""
        rows = self._table.rows(self._tower)
        chosen = self.vectors(np.random.default_rng(0).choice(rows, min(_QUERIES, len(rows)), replace=False))
        near = [self._table.nearest(vector, self._tower, AT, "", UNTUNED)[1] for vector in chosen]
        ends = np.cumsum([len(nearest) for nearest in near])[:-1]
        return made_of(np.split(self.vectors(np.concatenate(near)), ends))

    def _tune(self, state: IndexState, built_rows: int, queries: tuple[Floats, Source] | None = None) -> None:
        """Measure, and note the outcome in the table."""
        vectors, source = queries or self._queries(_QUERIES)
        if len(vectors) < ENOUGH:
            vectors, source = self._made(), "made"

        def search(query: Floats, effort: Effort) -> Rows:
            if self._stopped:
                raise Unavailable("the collection is closed: its index is tuned another time")
            return self._table.nearest(query, self._tower, AT, "", effort)[1]

        target = self._options.recall_target
        effort, recall, count = lance_tuned(search, self._table.vectors(self._tower, 0, MOST_ROWS), vectors, target)
        tuned = LanceTuned(state.id, built_rows, state.rows)
        tuned = replace(
            tuned, probes=effort.probes, refine=effort.refine, recall=recall, target=target, queries=count, source=source
        )
        self._table.note_tuning(self._tower, tuned.note())
        self._look()


def _recall(state: IndexState | None, tuned: LanceTuned | None) -> float | None:
    """Return the recall over all rows, that of new ones being exact; None while the index hasn't been measured."""
    if state is None:
        return 1.0
    if tuned is None:
        return None
    rows = state.rows + state.new_rows
    return round((state.rows * tuned.recall + state.new_rows) / rows, 4) if rows else 1.0
