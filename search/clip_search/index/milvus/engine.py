"""Engine with Milvus: vectors and filterable columns there, the truth in the table.

What is acknowledged is in the table, and is searched in memory until the server has indexed it; so nothing depends on what the
server has at a moment, and what it lacks or has too much is found by comparing row numbers, at opening and after each trouble.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from clip_client.errors import InvalidInput, Unavailable
from clip_client.spec import Tower
from clip_search.arrays import Floats, Found, Rows
from clip_search.index.kinds import UNTUNED
from clip_search.index.milvus.exact import exact
from clip_search.index.milvus.filling import Filling
from clip_search.index.milvus.measuring import loaded, measured, save
from clip_search.index.milvus.rows import MOST, MilvusRows
from clip_search.index.milvus.searching import Filter, asked, best
from clip_search.index.milvus.tail import Unsettled
from clip_search.index.tuning import QUERIES, SOURCES, Queries, Source
from clip_search.options import IndexOptions
from clip_search.storage.derived_files import Sums
from clip_search.storage.filters.milvus import milvus_filter
from clip_search.storage.table import Table

_LOG = logging.getLogger(__name__)
_AGAIN_S = 1.0  # pause between two attempts while the server is in trouble
_LOOK_S = 5.0  # pause between two looks for an index that is ready, and for better queries
_AT_ONCE = 100_000  # rows that the server lacks and gets while the collection is opened; more are sent in the background
_SENT_AT_ONCE, _GONE_AT_ONCE = 8_192, 1_000  # waiting rows and deletions that are sent with the change that made them so many
_MOST_KEPT = 32_768  # rows in memory beside a server that takes rows in
_MOST_WAITING = 131_072  # rows in memory beside one that doesn't; then changes are refused
_INDEXING_S, _INDEXED_A_S = 120.0, 500  # limit of the wait for an index: so long, and what so many rows a second take


class MilvusEngine:
    """Engine with a collection in Milvus; :meth:`agree` comes first."""

    def __init__(self, table: Table, tower: Tower, folder: Path, size: int, options: IndexOptions, queries: Queries) -> None:
        if len(table.identity) != 32:
            raise InvalidInput(
                "this collection is of an older version, whose rows Milvus can't tell from another's: copy it anew"
            )
        self._table, self._tower, self._folder, self._options = table, tower, folder, options
        self._milvus = MilvusRows(options.milvus, f"clipserve_{table.identity}_{tower}", table.identity, size)
        self._filling = Filling(table, tower, self._milvus)
        self._unsettled = Unsettled(size)
        self.damaged_at = 0.0  # what is here is looked at when it is opened, and no file is read later
        self._queries = queries
        self._moving = threading.Lock()  # of who writes to the server
        self._trouble = "it isn't connected yet"
        self._count: int | None = None
        self._anew = False  # rows that wait may be there already
        self._sealed: int | None = None  # last row of those that are being indexed
        self._due: dict[str, float] = {}  # when something may be done again
        self._last = self._shown = -1  # last row that the server had, and that searches may show
        self._tuned = loaded(folder, table.identity)

    def search(self, query: Floats, k: int, where: str, only: Callable[[], Rows | None], *, exactly: bool = False) -> Found:
        if exactly or k > MOST:
            return exact(self._table, self._tower, query, k, only(), self._shown)
        tail, gone = self._unsettled.tail, self._unsettled.gone
        kept = only() if where and (tail.count or milvus_filter(where, self._table.schema) is None) else None
        found = [tail.search(query, k, kept)] if tail.count else []
        if not self._is_all_here(tail):
            found.append(self._asked(query, (k, len(gone)), Filter.of(where, self._table.schema, kept)))
        scores, rows = best(found, gone, k)
        if len(rows) < k and len(rows) < self._expected(where, only):  # rows without an index yet are searched by halves there
            return exact(self._table, self._tower, query, k, only(), self._shown)
        return scores, rows

    def size(self) -> int:
        if (count := self._count) is None:
            count = self._count = self._table.count(self._tower)
        return count

    def vectors(self, rows: Rows) -> Floats:
        return self._table.matrix_of(self._tower, rows)

    def check_room(self) -> None:
        if (waiting := self._unsettled.count_waiting()) > _MOST_WAITING:
            raise Unavailable(f"{waiting:,} rows wait for Milvus: no more are taken until it has them. {self._trouble}")

    def append(self, rows: Rows, vectors: Floats) -> None:
        self._count, self._shown = None, int(rows[-1])
        self._unsettled.append(rows, vectors)
        if self._unsettled.count_waiting() >= _SENT_AT_ONCE:
            self._attempt(self._send)

    def hide(self, rows: Rows) -> None:
        self._count = None
        self._unsettled.hide(rows)
        if len(self._unsettled.gone) >= _GONE_AT_ONCE:
            self._attempt(self._forget)

    def agree(self) -> None:
        """Compare row numbers with the table's, if the server answers; else it happens once it does."""
        self._count, self._shown = None, max(self._shown, self._filling.last())
        self._connect(_AT_ONCE)

    def files(self) -> Mapping[Path, Sums]:
        return {}  # what is in the folder can be measured again

    def distrust(self, path: Path, why: str) -> None:
        pass  # there are none

    def last_row(self) -> int:
        return self._last

    def maintain(self, patience: int) -> bool:
        if self._trouble and not self._is_due("again", _AGAIN_S):
            return False
        if self._trouble and not self._connect(2**62):
            return False
        self._attempt(self._send)
        self._attempt(self._forget)
        if (
            not self._trouble
            and self._unsettled.tail.count > self._options.tail_rows * patience
            and self._is_due("look", _LOOK_S)
        ):
            self._attempt(self._settle)
        return self._tune()

    def rebuild(self) -> None:
        """Send all rows anew, and wait until they are indexed; searches go on meanwhile."""
        self._raise_trouble()
        with self._moving:
            try:
                rows = self._table.rows(self._tower)
                self._filling.fill(rows, lambda done, total: None)
                self._unsettled.note_sent(sent := int(rows[-1]) if len(rows) else -1)
                self._milvus.settle(_INDEXING_S + self.size() / _INDEXED_A_S)
            except Unavailable as problem:
                self._note(problem)
                raise
        if self.size() > self._options.exact_rows:
            self._unsettled.settle(sent)
        self._tuned, self._due = None, {}
        self._tune()

    def discard(self) -> None:
        """Remove the collection in Milvus."""
        with self._moving:
            try:
                self._milvus.open()
                self._milvus.drop()
            except Unavailable as problem:
                _LOG.warning("%s is left in Milvus: %s", self._milvus.name, problem)
            self._milvus.close()

    def stats(self) -> dict[str, Any]:
        tuned = self._tuned
        recall = (
            1.0 if self._is_all_here(self._unsettled.tail) else tuned.tuned.recall if tuned and tuned.tuned.queries else None
        )
        return {
            "engine": "milvus",
            "rows": self.size(),
            "tail_rows": self._unsettled.tail.count,
            "waiting_rows": self._unsettled.count_waiting(),
            "effort": tuned.tuned.effort if tuned else UNTUNED,
            "queries": tuned.tuned.queries if tuned else 0,
            "source": tuned.tuned.source if tuned else SOURCES[0],
            "recall": recall,
            "recall_target": self._options.recall_target,
            "trouble": self._trouble,
        }

    def _asked(self, query: Floats, wanted: tuple[int, int], chosen: Filter) -> Found:
        self._raise_trouble()
        try:
            return asked(self._milvus, query, wanted, self._tuned.tuned.effort if self._tuned else UNTUNED, chosen)
        except Unavailable as problem:
            self._note(problem)
            raise

    def _expected(self, where: str, only: Callable[[], Rows | None]) -> int:
        return self.size() if not where or (kept := only()) is None else len(kept)

    def _is_all_here(self, tail: Any) -> bool:
        """Tell if a small collection is in memory as a whole, and searched exactly."""
        return bool(tail.count - tail.dead == self.size() <= self._options.exact_rows)

    def _connect(self, most: int) -> bool:
        """Connect and bring the server's rows in line with the table's, unless it lacks more than ``most``."""
        with self._moving:
            try:
                if self._trouble:
                    self._milvus.open()
                missing, surplus, last = self._filling.compared()
                self._last = max(self._last, last)
                self._unsettled.hide(surplus)
                if len(missing) > most:
                    self._trouble = (
                        f"Milvus lacks {len(missing):,} of this collection's rows and is being filled from the table"
                    )
                    return False
                self._filling.fill(missing, self._tell)
                self._unsettled.begin(*self._filling.newest(self._options.exact_rows, self._options.tail_rows))
                later, _ = self._unsettled.waiting()
                self._unsettled.hide(np.setdiff1d(later, self._table.there(later)))  # the table is an older one
            except Unavailable as problem:
                self._note(problem)
                return False
            self._trouble, self._anew = "", False
            return True

    def _tell(self, done: int, total: int) -> None:
        self._trouble = f"Milvus is being filled from the table, {done:,} of {total:,} rows are there: try again later"

    def _send(self) -> None:
        """Send the rows that wait, and drop from memory what are too many, once searches see them there."""
        with self._moving:
            rows, vectors = self._unsettled.waiting()
            if not len(rows):
                return
            self._filling.put(rows, vectors, anew=self._anew)
            self._unsettled.note_sent(int(rows[-1]))
            tail = self._unsettled.tail
            if tail.count > _MOST_KEPT:
                self._milvus.there(rows[-1:])  # waits until all rows can be seen
                self._unsettled.settle(int(tail.rows[tail.count - 1 - self._options.tail_rows]))

    def _forget(self) -> None:
        """Delete rows there, and forget them once no search sees them any more."""
        with self._moving:
            gone = self._unsettled.gone
            if len(gone):
                self._milvus.remove(gone)
                self._unsettled.forget(np.setdiff1d(gone, self._milvus.there(gone)))

    def _settle(self) -> None:
        """Have new rows indexed; drop them from memory once they are."""
        if self.size() <= self._options.exact_rows:
            return
        if self._sealed is None:
            sent = self._unsettled.sent
            self._milvus.seal()
            self._sealed = sent
        elif self._milvus.is_settled():
            self._unsettled.settle(self._sealed)
            self._sealed = None

    def _tune(self) -> bool:
        """Measure the recall on text queries, and set the effort by it, once that says more than the last time."""
        size = self.size()
        if self._trouble or size <= self._options.exact_rows or not self._is_due("tune", _LOOK_S):
            return False
        try:
            queries, source = self._queries(QUERIES)
            if not self._is_worth(size, source) or self._unsettled.count_waiting() or not self._milvus.is_settled():
                return False
            last, target = self._unsettled.sent, self._options.recall_target
            self._tuned = measured(self._table, self._tower, self._milvus, (queries, source, target, last, size))
        except Unavailable as problem:
            self._note(problem)
            return False
        save(self._folder, self._table.identity, self._tuned)
        return True

    def _is_worth(self, size: int, source: Source) -> bool:
        known = self._tuned
        if known is None or size > 2 * known.rows:
            return True
        return SOURCES.index(source) > SOURCES.index(known.tuned.source)

    def _is_due(self, what: str, pause_s: float) -> bool:
        now = time.monotonic()
        if now < self._due.get(what, 0.0):
            return False
        self._due[what] = now + pause_s
        return True

    def _attempt(self, change: Callable[[], None]) -> None:
        """Change something there, unless others are at it; a failure is noted, and mended later."""
        if not self._trouble and not self._moving.locked():
            try:
                change()
            except Unavailable as problem:
                self._note(problem)

    def _note(self, problem: Unavailable) -> None:
        if not self._trouble:
            _LOG.warning("%s", problem)
        self._trouble, self._anew, self._sealed = str(problem), True, None

    def _raise_trouble(self) -> None:
        if self._trouble:
            raise Unavailable(self._trouble)
