"""A collection: its table, an engine per tower, the cards of its rows, one writer, and upkeep in the background."""

from __future__ import annotations

import collections
import logging
import os
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from clip_client.errors import ClipError, InvalidInput, Unavailable
from clip_client.spec import TOWERS, Tower
from clip_search.cards import Cards
from clip_search.engine import Engine, FaissEngine, Queries
from clip_search.errors import Conflict, NotFound
from clip_search.faiss_index import Floats
from clip_search.known import Known
from clip_search.lance_engine import LanceEngine
from clip_search.options import IndexOptions
from clip_search.part import Found, Rows
from clip_search.rows import NewRow, to_arrow
from clip_search.schema import HEAVY, SOURCE_STATE, about, new_columns, own_columns
from clip_search.table import Table
from clip_search.tuning import Source
from clip_search.writer import Add, Added, Delete, Operation, Writer

_LOG = logging.getLogger(__name__)
_PAUSE_S = 0.5
Texts = Callable[..., "tuple[Floats, Source]"]
"""Asked for ``count`` text queries of a ``fingerprint`` and a ``size``."""
_OPTIMIZE_COMMITS = 200
_PATIENCE = 4
"""While rows keep coming, upkeep waits until it is due so many times over: it takes the cores from searches for seconds."""
_FILTERS = 32
_NICENESS = 10  # a tenth of the weight of a search


class Collection:
    """Rows that can be searched, changed and trusted; safe to use from several threads."""

    def __init__(self, name: str, table: Table, folder: Path, options: IndexOptions, texts: Texts) -> None:
        self.name, self.table, self.about = name, table, about(table.schema, name)
        self._folder = folder
        self._options = options
        self.cards = Cards(folder / "cards")
        self.cards.load()
        queries = partial(texts, fingerprint=self.about.fingerprint, size=self.about.size)
        self.engines: dict[Tower, Engine] = {tower: self._engine(tower, folder / tower, queries) for tower in TOWERS}
        self._catch_up()
        self._known = Known(table.ids())
        self._next_row = 1 + max(table.last_row(), self.cards.boundary)
        self._commits, self._seen_commits, self._optimized_at = 0, 0, 0
        self._filters: collections.OrderedDict[tuple[str, int], Rows] = collections.OrderedDict()
        self._closing = threading.Event()
        self._upkeep_lock = threading.Lock()
        self.writer = Writer(self._commit, name)
        self._upkeep = threading.Thread(target=self._maintain_forever, name=f"upkeep of {name}", daemon=True)
        self._upkeep.start()

    def add(self, rows: Sequence[NewRow], *, on_conflict: str, fingerprint: str) -> Future[Added]:
        """Queue rows; done once they are durable and found.

        Raises:
            ContractMismatch: vectors of another model.
            InvalidInput: an id twice, or metadata that doesn't fit.
        """
        self.about.check_fingerprint(fingerprint, self.name)
        twice = [id for id, count in collections.Counter(row.id for row in rows).items() if count > 1]
        if twice:
            raise InvalidInput(f"id {twice[0]!r} is there twice in one request: send each row once")
        new_columns(own_columns(self.table.schema), (row.metadata for row in rows))
        return self.writer.submit(Add(rows, on_conflict, fingerprint or self.about.fingerprint))  # type: ignore[arg-type]

    def delete(self, *, ids: Sequence[str] = (), where: str = "") -> Future[int]:
        """Queue a deletion by ids or by filter; done once the rows are gone and no longer found."""
        return self.writer.submit(Delete(ids, where))

    def search(self, query: Floats, tower: Tower, k: int, where: str) -> Found:
        """The ``k`` nearest rows to a query [D] of unit length among those that a filter keeps.

        Raises:
            InvalidInput: LanceDB doesn't accept the filter.
        """
        return self.engines[tower].search(query, k, where, lambda: self.matching(where) if where else None)

    def matching(self, where: str) -> Rows:
        """The rows that a filter keeps, ascending; remembered until the next commit."""
        key = (where, self._commits)
        if key not in self._filters:
            self._filters[key] = self.table.matching(where)
            while len(self._filters) > _FILTERS:
                self._filters.popitem(last=False)
        return self._filters[key]

    def row_of(self, id: str) -> int:
        """The number of a row.

        Raises:
            NotFound: no such id.
        """
        found = self.table.rows_of([id]) if self._known.maybe([id]) else {}
        if id not in found:
            raise NotFound(f"no row {id!r} in collection {self.name}: list its rows to see which there are")
        return found[id]

    def present(self, ids: Sequence[str]) -> set[str]:
        """Those of the ids that are there."""
        return set(self.table.rows_of(self._known.maybe(ids)))

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
        """One round of upkeep, as done in the background: compaction and index builds, where they are due."""
        with self._upkeep_lock:
            patience = 1 if self._commits == self._seen_commits else _PATIENCE
            self._seen_commits = self._commits
            if self._commits - self._optimized_at >= _OPTIMIZE_COMMITS * patience:
                self._optimize()
            if True in [engine.maintain(patience) for engine in self.engines.values()]:
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
        """Start :meth:`rebuild` in the background."""
        done: Future[None] = Future()

        def work() -> None:
            _lower_priority()
            try:
                self.rebuild()
                done.set_result(None)
            except Exception as problem:
                _LOG.exception("rebuilding collection %s failed", self.name)
                done.set_exception(Unavailable(f"collection {self.name} can't be rebuilt ({problem}): the log says more"))

        threading.Thread(target=work, name=f"rebuild of {self.name}", daemon=True).start()
        return done

    def close(self) -> None:
        """Finish what was queued and stop."""
        self._closing.set()
        self.writer.close()
        self._upkeep.join(timeout=5)

    def remove_files(self) -> None:
        """Remove what was derived from the table."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _engine(self, tower: Tower, folder: Path, queries: Queries) -> Engine:
        if self._options.engine == "lancedb":
            return LanceEngine(self.table, tower, self.about.size, self._options)
        return FaissEngine(self.table, tower, folder, self.about.size, self._options, queries)

    def _catch_up(self) -> None:
        new = self.table.cards(self.cards.boundary + 1, 2**62)
        if len(new):
            self.cards.append(new)

    def _commit(self, group: list[Operation]) -> None:
        """Apply operations in their order; rows to be added that follow each other are written together."""
        adds: list[Add] = []
        for operation in group:
            if isinstance(operation, Add):
                adds.append(operation)
                continue
            self._add(adds)
            adds = []
            _settle(operation, lambda operation=operation: self._delete(operation))
        self._add(adds)

    def _add(self, adds: Sequence[Add]) -> None:
        """Write what doesn't conflict in one commit; an id that comes again waits for the next."""
        while adds:
            together = _disjoint(adds)
            try:
                self._write(together)
            except ClipError as problem:
                self._one_by_one(together, problem)
            adds = [add for add in adds if add not in together]

    def _one_by_one(self, adds: Sequence[Add], problem: ClipError) -> None:
        """What can't be written together is written alone, so that one bad request doesn't fail its neighbours."""
        if len(adds) == 1:
            adds[0].done.set_exception(problem)
            return
        for add in adds:
            try:
                self._write([add])
            except ClipError as own:
                add.done.set_exception(own)

    def _write(self, adds: Sequence[Add]) -> None:
        there = self.table.rows_of(self._known.maybe(row.id for add in adds for row in add.rows))
        plans = [(add, plan) for add in adds if (plan := _plan(add, there)) is not None]
        rows = [row for _, plan in plans for row in plan]
        if rows:
            self._store(rows, [there[row.id] for row in rows if row.id in there], plans)
        for add, plan in plans:
            replaced = sum(row.id in there for row in plan)
            result = Added(len(plan) - replaced, replaced, len(add.rows) - len(plan), [row.id for row in add.rows])
            add.done.set_result(result)

    def _store(self, rows: Sequence[NewRow], replaced: Sequence[int], plans: Sequence[tuple[Add, list[NewRow]]]) -> None:
        columns = new_columns(own_columns(self.table.schema), (row.metadata for row in rows))
        if SOURCE_STATE not in self.table.schema.names and any(row.source_state is not None for row in rows):
            columns[SOURCE_STATE] = "string"
        if columns:
            self.table.add_columns(columns)
        first = self._next_row
        self._next_row += len(rows)
        schema, at, tables = self.table.schema, first, []
        for add, plan in plans:
            tables.append(to_arrow(plan, at, add.fingerprint, schema))
            at += len(plan)
        new = pa.concat_tables(tables)
        (self.table.upsert if replaced else self.table.append)(new)
        self._show(new, rows)
        self._hide(np.sort(np.array(replaced, np.int64)))
        self._commits += 1

    def _show(self, new: pa.Table, rows: Sequence[NewRow]) -> None:
        """Make committed rows findable."""
        self._known.add(row.id for row in rows)
        self.cards.append(new.drop_columns([name for name in new.column_names if name in HEAVY]))
        numbers = new["row"].to_numpy()
        for tower, engine in self.engines.items():
            here = new[f"has_{tower}"].to_numpy()
            if here.any():
                engine.append(numbers[here], np.stack([row.vectors[tower] for row in rows if tower in row.vectors]))

    def _hide(self, rows: Rows) -> None:
        if len(rows):
            for engine in self.engines.values():
                engine.hide(rows)

    def _delete(self, operation: Delete) -> int:
        if operation.where:
            rows = self.table.matching(operation.where)
        else:
            rows = np.sort(np.array([*self.table.rows_of(self._known.maybe(operation.ids)).values()], np.int64))
        if len(rows):
            self.table.delete(rows)
            self._hide(rows)
            self._commits += 1
        return len(rows)

    def _maintain_forever(self) -> None:
        _lower_priority()
        while not self._closing.wait(_PAUSE_S):
            try:
                self.maintain()
            except Exception:  # tried again later
                _LOG.exception("upkeep of collection %s failed", self.name)
                self._closing.wait(10)

    def _optimize(self) -> None:
        self._optimized_at = self._commits
        self.table.index_scalars()
        self.table.optimize()


def _disjoint(adds: Sequence[Add]) -> list[Add]:
    """The first ones that have no id in common."""
    chosen, ids = [], set[str]()
    for add in adds:
        own = {row.id for row in add.rows}
        if not ids & own:
            chosen.append(add)
            ids |= own
    return chosen


def _plan(add: Add, there: Mapping[str, int]) -> list[NewRow] | None:
    """The rows of an addition that are to be written; None if it is refused."""
    conflicts = [row.id for row in add.rows if row.id in there]
    if conflicts and add.on_conflict == "error":
        more = f" and {len(conflicts) - 1} more" if len(conflicts) > 1 else ""
        add.done.set_exception(Conflict(f"id {conflicts[0]!r}{more} is there already: send on_conflict 'replace' or 'skip'"))
        return None
    return [row for row in add.rows if add.on_conflict == "replace" or row.id not in there]


def _lower_priority() -> None:
    """Of this thread and those that it starts: searches and commits go before."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)


def _settle(operation: Operation, work: Any) -> None:
    try:
        operation.done.set_result(work())
    except ClipError as problem:
        operation.done.set_exception(problem)
