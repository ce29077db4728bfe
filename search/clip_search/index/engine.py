"""Engine protocol and the faiss engine."""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from clip_client.spec import Tower
from clip_search.arrays import Floats, Found, Rows
from clip_search.index import merges
from clip_search.index.block_checks import Keeper
from clip_search.index.mapped_index import INDEX
from clip_search.index.part import Part
from clip_search.index.part_builder import PartBuilder, loaded
from clip_search.index.snapshot import Index, Snapshot
from clip_search.index.tuning import SOURCES, Queries
from clip_search.options import IndexOptions
from clip_search.storage import derived_files
from clip_search.storage.derived_files import Sums
from clip_search.storage.table import Table

_LOG = logging.getLogger(__name__)
_RETUNE_S = 5.0  # pause between two looks for better queries to tune on
_REST_S = 30.0  # without new rows until parts are merged, which takes minutes: an import is over then

_SEALED = 4
"""Factor on the rows that are due to be indexed, from which on new rows go to a file: a build may take minutes."""


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
        self._table, self._tower, self._folder, self._options = table, tower, folder, options
        self._builder = PartBuilder(table, tower, folder, options, queries)
        self._building = threading.Lock()
        self._sealing = threading.Lock()  # of whoever writes new rows to a file, begins a build, or removes files
        self._build_to = -1  # last row of the latest build
        self._retune_at = self.damaged_at = 0.0
        self._rest_at = time.monotonic() + _REST_S
        parts, self._last, self._unsaved = loaded(folder, table.identity)
        self._manifest = derived_files.manifest_sums(folder)
        self.index = Index(size, parts)

    def search(self, query: Floats, k: int, where: str, only: Callable[[], Rows | None], *, exactly: bool = False) -> Found:
        if any(part.is_lost or part.is_touched() for part in self.index.snapshot.parts):
            return self._search_table(query, k, where)
        return self.index.search(query, k, only(), exactly=exactly)

    def size(self) -> int:
        return len(self.index)

    def vectors(self, rows: Rows) -> Floats:
        if any(part.is_lost or part.is_touched() for part in self.index.snapshot.parts):
            return self._table.matrix_of(self._tower, rows)
        return self.index.vectors(rows)

    def check_room(self) -> None:
        pass  # memory grows with the rows

    def append(self, rows: Rows, vectors: Floats) -> None:
        self.index.append(rows, vectors)
        self._seal()

    def hide(self, rows: Rows) -> None:
        self.index.hide(rows)

    def agree(self) -> None:
        rows = self._table.rows(self._tower)
        missing = self.index.agree(rows)
        if len(missing) and missing[0] <= self.index.snapshot.last:  # the table is older: rows are back in the middle
            self.index.forget(int(missing[0]))
            missing = self.index.agree(rows)
        step = _SEALED * self._options.tail_rows
        for start in range(0, len(missing), step):
            some = missing[start : start + step]
            self.append(*self._builder.vectors(some, self.index.size))

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
        for part in now.parts:
            if part.is_touched() and not part.is_lost and part.folder:
                self.distrust(part.folder / INDEX, f"{part.folder} was changed by somebody")
        self._unsaved = self.index.drop_hidden() or self._unsaved
        if any(merges.must_go(part, is_busy=patience > 1) for part in self.index.snapshot.parts):
            self.rebuild()
        elif merges.pending_rows(now) > self._options.tail_rows * patience:
            self._build(merges.start(now))
        elif self._is_at_rest(patience) and (first := merges.joint(now)) is not None:
            self._build(first)
        else:
            return self._retune(now)
        return True

    def _is_at_rest(self, patience: int) -> bool:
        """Tell if no rows have come for a while."""
        if patience > 1:
            self._rest_at = time.monotonic() + _REST_S
        return time.monotonic() > self._rest_at

    def rebuild(self) -> None:
        self._build(0)

    def files(self) -> dict[Path, Sums]:
        saved = ((part.folder, part.files) for part in self.index.snapshot.parts if part.folder and not part.is_lost)
        return {folder / name: sums for folder, files in saved for name, sums in files.items()} | self._manifest

    def distrust(self, path: Path, why: str) -> None:
        """Write the files of a part anew; index its rows anew if memory doesn't match their checksums either."""
        with self._building:
            if path not in self.files():
                return  # another has taken its place
            self._unsaved, self.damaged_at = True, time.time()
            part = next((part for part in self.index.snapshot.parts if part.folder == path.parent), None)
            if part and part.states:
                _LOG.warning("%s: the table is searched until all is indexed again", why)
                part.is_lost = True
                return
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
        indexed = now.parts[: len(now.parts) - len(merges.pending(now))]
        return {
            "engine": "faiss",
            "rows": len(self.index),
            "parts": [
                {"kind": part.index.kind, "rows": len(part.rows), "hidden": part.dead, **vars(part.tuned)} for part in indexed
            ],
            "tail_rows": now.tail.count + sum(len(part.rows) for part in merges.pending(now)),
            "recall": recall(now),
            "recall_target": self._options.recall_target,
        }

    def _build(self, first: int) -> None:
        """Index the rows from ``first`` on in one part, and swap it in."""
        with self._building:
            with self._sealing:
                self._build_to = last = self.index.snapshot.last
            if part := self._builder.part(first, last, self.index.size):
                self.index.replace(part, first=first)
            else:
                self.index.clear(first, last)
            self._unsaved = True
            self._save()

    def _save(self) -> None:
        """Write the parts that have no files, name all that count in one step, remove the others."""
        derived_files.make_folder(self._folder)
        now = self.index.snapshot
        for part in now.parts:
            if not part.folder:
                part.save(self._builder.new_folder())
        about = {part.folder.name: part.about() for part in now.parts if part.folder}
        self._last = self.last_row()
        queries = self._builder.saved.save()
        self._builder.note({"last": self._last, "parts": about, "queries": queries})
        self._manifest = derived_files.manifest_sums(self._folder)
        self._unsaved = False
        with self._sealing:
            keep = {part.folder.name for part in self.index.snapshot.parts if part.folder}
            derived_files.remove_others(self._folder, {*keep, queries.get("name", "")})

    def _seal(self) -> None:
        """Move the tail to a file once it is large, in pieces that end where a build under way does."""
        while (tail := self.index.snapshot.tail).count > _SEALED * self._options.tail_rows:
            with self._sealing:
                rows = tail.rows[: tail.count]
                count = int(np.searchsorted(rows, self._build_to, "right")) or len(rows)
                try:
                    part = self._builder.sealed(tail, count)
                except OSError as problem:
                    _LOG.warning("%s: new rows stay in memory until they are indexed", problem)
                    return
                self._unsaved = self.index.seal(tail, part) or self._unsaved

    def _search_table(self, query: Floats, k: int, where: str) -> Found:
        return self._table.nearest(query, self._tower, k, where, None)

    def _replaced(self, part: Part) -> Part | None:
        """Replace a part by an exact one from the table; None if no rows of it are left."""
        exact = self._builder.exact(part.first, part.last)
        if exact:
            exact.makeshift = True
        self.index.exchange(part, exact)
        return exact

    def _retune(self, now: Snapshot) -> bool:
        """Tune parts again once better queries are known than they were tuned on."""
        waiting = [part for part in now.parts if part.index.kind != "flat" and part.tuned.source != SOURCES[-1]]
        if not waiting or time.monotonic() < self._retune_at:
            return False
        self._retune_at = time.monotonic() + _RETUNE_S
        best = SOURCES.index(self._builder.source())
        waiting = [part for part in waiting if SOURCES.index(part.tuned.source) < best]
        for part in waiting:
            part.tuned, self._unsaved = self._builder.tune(part.index), True
        if any(self._builder.is_outgrown(part) for part in waiting):
            self.rebuild()
        return bool(waiting)


def recall(now: Snapshot) -> float | None:
    """Return the recall over all rows, the tail's being exact; None while a part hasn't been measured."""
    if any(part.index.kind != "flat" and not part.tuned.queries for part in now.parts):
        return None
    sizes = [(len(part.rows), part.tuned.recall) for part in now.parts] + [(now.tail.count, 1.0)]
    rows = sum(size for size, _ in sizes)
    return round(sum(size * reached for size, reached in sizes) / rows, 4) if rows else 1.0
