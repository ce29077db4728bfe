"""A collection: its table, an engine per tower, the cards of its rows, one writer, and upkeep in the background."""

from __future__ import annotations

import collections
import contextlib
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from functools import partial
from pathlib import Path
from typing import Any

from clip_client.errors import ClipError, InvalidInput, Unavailable
from clip_client.spec import TOWERS, Tower
from clip_search.arrays import Floats, Found, Rows
from clip_search.commits import Commits
from clip_search.errors import NotFound, cleaned
from clip_search.index.block_checks import Checks
from clip_search.index.engine import Engine, FaissEngine, Queries
from clip_search.index.lance_engine import LanceEngine
from clip_search.index.tuning import Source
from clip_search.lru import Lru
from clip_search.memory_trim import trim
from clip_search.options import IndexOptions
from clip_search.storage.acknowledged_version import Acknowledged
from clip_search.storage.columns import Columns
from clip_search.storage.row_cache import Cards
from clip_search.storage.rows import NewRow, OnConflict
from clip_search.storage.schema import about, own_columns
from clip_search.storage.table import Table
from clip_search.storage.writer import Add, Added, Delete, Writer

_LOG = logging.getLogger(__name__)
_PAUSE_S = 0.5
Texts = Callable[..., "tuple[Floats, Source]"]
"""Asked for ``count`` text queries of a ``fingerprint`` and a ``size``."""
_OPTIMIZE_COMMITS = 100  # some 5 files each
_PATIENCE = 4
"""While rows keep coming, indexing waits until it is due so many times over: it takes the cores from searches for seconds."""
_QUICK_SHARE, _SLOW_PATIENCE = 0.05, 8
"""Compaction that takes less than this share of the time isn't seen in the p95 of searches; a slower one waits longer."""
_FILTERS = 32
_SURE_S = 1.0  # a table of a million rows is read in that time; a search doesn't wait longer for a disk that fails
_NICENESS = 10  # a tenth of the weight of a search


class Collection:
    """Rows that can be searched, changed and trusted; safe to use from several threads."""

    def __init__(self, name: str, table: Table, folder: Path, options: IndexOptions, texts: Texts) -> None:
        self.name, self.table, self.about = name, table, about(table.schema, name)
        self._folder = folder
        self._options = options
        acknowledged = Acknowledged(folder / "acknowledged", table)
        acknowledged.check()
        self.cards = Cards(folder / "cards", table.identity, table.cards)
        self.cards.load()
        queries = partial(texts, fingerprint=self.about.fingerprint, size=self.about.size)
        self.engines: dict[Tower, Engine] = {tower: self._engine(tower, folder / tower, queries) for tower in TOWERS}
        self._checks = Checks([self.cards, *self.engines.values()])
        self._commits = Commits(table, self.cards, self.engines, acknowledged)
        self._commits.agree()
        self._seen_commits = self._commits.count
        self._optimized_at, self._optimized_s = self._commits.count - table.fragments(), time.monotonic()
        self._filters: Lru[tuple[str, int], Rows] = Lru(_FILTERS)
        self._closing = threading.Event()
        self._upkeep_lock, self._rebuild_lock = threading.Lock(), threading.Lock()
        self._rebuilding: Future[None] | None = None
        self.writer = Writer(self._commits.apply, name)
        self._upkeep = threading.Thread(target=self._maintain_forever, name=f"upkeep of {name}", daemon=True)
        self._upkeep.start()

    def add(
        self, rows: Sequence[NewRow], *, on_conflict: OnConflict, fingerprint: str, columns: Mapping[str, str] | None = None
    ) -> Future[Added]:
        """Queue rows; done once they are durable and found. Metadata that don't fit refuse their row alone.

        Raises:
            ContractMismatch: vectors of another model.
            InvalidInput: an id twice; by the future, if no row's metadata fit.
        """
        self.about.check_fingerprint(fingerprint, self.name)
        twice = [id for id, count in collections.Counter(row.id for row in rows).items() if count > 1]
        if twice:
            raise InvalidInput(f"id {twice[0]!r} is there twice in one request: send each row once")
        return self.writer.submit(Add(rows, on_conflict, fingerprint or self.about.fingerprint, columns or {}))

    def columns(self) -> Columns:
        """Return the columns as they are, ready to take rows."""
        return self._commits.columns()

    def delete(self, *, ids: Sequence[str] = (), where: str = "") -> Future[int]:
        """Queue a deletion by ids or by filter; done once the rows are gone and no longer found."""
        return self.writer.submit(Delete(ids, where))

    def search(self, query: Floats, tower: Tower, k: int, where: str) -> Found:
        """The ``k`` nearest rows to a query [D] of unit length among those that a filter keeps.

        Raises:
            InvalidInput: LanceDB doesn't accept the filter.
        """
        self._make_sure()
        return self.engines[tower].search(query, k, where, lambda: self.matching(where) if where else None)

    def matching(self, where: str) -> Rows:
        """The rows that a filter keeps, ascending; remembered until the next commit."""
        key = (where, self._commits.count)
        rows = self._filters.get(key)
        if rows is None:
            rows = self.table.matching(where)
            self._filters.put(key, rows)
        return rows

    def row_of(self, id: str) -> int:
        """The number of a row.

        Raises:
            NotFound: no such id.
        """
        self._make_sure()
        found = self.table.rows_of([id]) if self._commits.known.maybe([id]) else {}
        if id not in found:
            raise NotFound(f"no row {id!r} in collection {self.name}: list its rows to see which there are")
        return found[id]

    def present(self, ids: Sequence[str]) -> set[str]:
        """Those of the ids that are there."""
        self._make_sure()
        return set(self.table.rows_of(self._commits.known.maybe(ids)))

    def stats(self) -> dict[str, Any]:
        """Everything about it, ready for JSON."""
        return {
            "name": self.name,
            "rows": len(self.table),
            "dimension": self.about.size,
            "fingerprint": self.about.fingerprint,
            "columns": own_columns(self.table.schema),
            "table_version": self.table.version,
            "indexes": {tower: engine.stats() for tower, engine in self.engines.items()},
        }

    def maintain(self) -> None:
        """One round of upkeep, as done in the background: checks of files; compaction and index builds, where they are due."""
        with self._upkeep_lock:
            self._checks.round()
            commits = self._commits.count
            patience = 1 if commits == self._seen_commits else _PATIENCE
            self._seen_commits = commits
            if self._commits.unsure:
                self._look_again().result()
            if self._is_compaction_due(commits, pausing=patience == 1):
                self._optimize()
            if True in [engine.maintain(patience) for engine in self.engines.values()] or self.cards.unsaved:
                self.cards.save()

    def rebuild(self) -> None:
        """Compact the table, index everything anew and swap it in."""
        with self._upkeep_lock:
            self._optimize()
            last = self.cards.boundary
            self.cards.replace(self.table.cards(0, last), last)
            for engine in self.engines.values():
                engine.rebuild()

    def rebuild_soon(self) -> Future[None]:
        """Start :meth:`rebuild` in the background; one that is under way is joined."""
        with self._rebuild_lock:
            if self._rebuilding and not self._rebuilding.done():
                return self._rebuilding
            self._rebuilding = Future()
            self._rebuilding.set_running_or_notify_cancel()  # who waits may give up, the work goes on
            work = partial(self._rebuilt, self._rebuilding)
            threading.Thread(target=work, name=f"rebuild of {self.name}", daemon=True).start()
            return self._rebuilding

    def close(self) -> None:
        """Finish what was queued and stop."""
        self._closing.set()
        self.writer.close(Unavailable(f"the sidecar that holds collection {self.name} is stopping: try again in a moment"))
        self._upkeep.join(timeout=5)

    def drop(self, drop: Callable[[], None]) -> None:
        """Finish what was queued, stop, remove the table by ``drop``, and what was derived from it.

        Raises:
            ClipError: the table can't be removed; what was queued is in it.
        """
        self._closing.set()
        self.writer.close(NotFound(f"collection {self.name} was dropped: there is nothing left of it"))
        self.table.drop(drop)
        self._upkeep.join(timeout=5)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _rebuilt(self, done: Future[None]) -> None:
        _lower_priority()
        try:
            self.rebuild()
            done.set_result(None)
        except BaseException as problem:  # as in the upkeep
            _LOG.exception("rebuilding collection %s failed", self.name)
            reason = f"collection {self.name} can't be rebuilt ({cleaned(problem)}): the log says more"
            done.set_exception(Unavailable(reason))

    def _make_sure(self) -> None:
        """After a change whose outcome nobody knows, wait a moment for what is in memory to agree with the table."""
        if self._commits.unsure:
            with contextlib.suppress(ClipError):
                wait([self._look_again()], _SURE_S)

    def _look_again(self) -> Future[int]:
        """Let the writer read the table, as it does before any change."""
        return self.writer.submit(Delete())

    def _engine(self, tower: Tower, folder: Path, queries: Queries) -> Engine:
        if self._options.engine == "lancedb":
            return LanceEngine(self.table, tower, self.about.size, self._options)
        return FaissEngine(self.table, tower, folder, self.about.size, self._options, queries)

    def _maintain_forever(self) -> None:
        _lower_priority()
        while not self._closing.wait(_PAUSE_S):
            try:
                self.maintain()
            except BaseException:  # tried again later; panics of LanceDB's Rust code aren't Exceptions
                if not self._closing.is_set():
                    _LOG.exception("upkeep of collection %s failed", self.name)
                self._closing.wait(10)

    def _is_compaction_due(self, commits: int, *, pausing: bool) -> bool:
        """Tell if there are many files; beside rows that keep coming, very many, unless compaction is quick."""
        is_quick = self.table.merging_s < _QUICK_SHARE * (time.monotonic() - self._optimized_s)
        return commits - self._optimized_at >= _OPTIMIZE_COMMITS * (1 if pausing or is_quick else _SLOW_PATIENCE)

    def _optimize(self) -> None:
        self._optimized_at = self._commits.count
        try:
            self.table.index_scalars()
            self.table.optimize()
        finally:
            self._optimized_s = time.monotonic()
            trim()


def _lower_priority() -> None:
    """Of this thread and those that it starts: searches and commits go before."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
