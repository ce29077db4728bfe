"""Commits of a collection: changes are applied to its table, then in memory, which agrees with the table whatever fails."""

import functools
import itertools
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
import pyarrow as pa

from clip_client.errors import ClipError, InvalidInput, Unavailable
from clip_client.spec import Tower
from clip_search.addition_plans import Plan, disjoint, planned
from clip_search.arrays import Floats, Rows
from clip_search.errors import Conflict, cleaned
from clip_search.index.engine import Engine
from clip_search.storage.acknowledged_version import AcknowledgedVersion
from clip_search.storage.columns import Columns
from clip_search.storage.id_filter import IdFilter
from clip_search.storage.row_cache import RowCache
from clip_search.storage.row_numbers import RowNumbers
from clip_search.storage.rows import NewRow, to_arrow, vectors_in
from clip_search.storage.schema import HEAVY, SOURCE_STATE, check_kind, own_columns
from clip_search.storage.table import Table
from clip_search.storage.writer import Add, Added, Alone, Delete, Operation

_LOG = logging.getLogger(__name__)
_Out = TypeVar("_Out")


class Beside(Protocol):
    """Second set of vectors of the same rows. It never raises: what it can't take is embedded later."""

    def embed(self, tower: Tower, inputs: Sequence[Any]) -> Sequence[Floats | None]:
        """Return vectors of encoded pictures or of texts, None for those that can't be embedded now."""

    def copied(self, row: int) -> Mapping[Tower, Floats]:
        """Return a row's vectors by tower; none for a row that isn't in it."""

    def take(self, new: pa.Table, rows: Sequence[NewRow]) -> None:
        """Take in committed rows that have vectors for it."""

    def remove(self, rows: Rows) -> None:
        """Remove rows that are gone."""


class Commits:
    """Applies groups of operations; used by one thread at a time."""

    def __init__(
        self, table: Table, cards: RowCache, engines: Mapping[Tower, Engine], acknowledged: AcknowledgedVersion
    ) -> None:
        self.table, self.cards, self.engines, self._acknowledged = table, cards, engines, acknowledged
        self.known = IdFilter(())  # ids that may be there
        self._numbers = RowNumbers(table)
        self.count = 0  # commits so far
        self.beside: Beside | None = None
        self.retired: ClipError | None = None  # the answer to whatever comes once another set serves
        self.unsure = True  # if a failure left open what is in the table: it is read before anything else is changed

    def agree(self) -> None:
        """Read the table and bring memory in line with it; raise NotFound or Unavailable if it can't be read."""
        self.table.refresh()
        self.known.agree(self.table.ids())
        rows = self.agree_on_rows()
        seen = [self.cards.boundary, *(engine.last_row() for engine in self.engines.values())]
        self._numbers.agree(max([*rows[-1:].tolist(), *seen]))
        self._acknowledged.note()
        self.count += 1
        self.unsure = False

    def agree_on_rows(self) -> Rows:
        """Bring cards and engines in line with the table's rows, and return these."""
        rows = self.table.numbers()
        self.cards.complete(rows)
        for engine in self.engines.values():
            engine.agree()
        return rows

    def apply(self, group: Sequence[Operation]) -> None:
        """Apply operations in their order, each with its own outcome; consecutive additions share a commit."""
        for kind, run in itertools.groupby(group, type):
            if self.retired:
                for operation in run:
                    operation.end(self.retired)
            elif kind is Add:
                self._add([operation for operation in run if isinstance(operation, Add)])
            else:
                for operation in run:
                    self._delete_one(operation)

    def columns(self) -> Columns:
        """Return the columns as they are, ready to take rows."""
        return Columns(own_columns(self.table.schema), functools.cache(self.table.beyond_floats))

    def _add(self, adds: Sequence[Add]) -> None:
        """Write additions with no id in common in one commit; one that repeats an id waits for the next."""
        while adds:
            together, adds = disjoint(adds)
            self._attempt(together)

    def _attempt(self, adds: Sequence[Add]) -> None:
        """Write additions in one commit; if it fails, one by one, so that a bad one fails alone."""
        try:
            outcomes = self._write(adds)
        except BaseException as problem:  # panics of LanceDB's Rust code aren't Exceptions
            alone = len(adds) == 1
            for add in adds:
                if alone or self.unsure:
                    add.end(problem)
                else:
                    self._attempt([add])
            return
        for add, outcome in zip(adds, outcomes, strict=True):
            add.end(outcome)

    def _write(self, adds: Sequence[Add]) -> list[Added | InvalidInput | Conflict]:
        self._be_sure()
        for engine in self.engines.values():
            engine.check_room()
        there = self.table.rows_of(self.known.maybe(row.id for add in adds for row in add.rows))
        columns = self.columns()
        plans = [planned(add, there, columns) for add in adds]
        writing = [plan for plan in plans if isinstance(plan, Plan) and plan.rows]
        if writing:
            self._store(writing, columns)
        return [plan.outcome() if isinstance(plan, Plan) else plan for plan in plans]

    def _store(self, plans: Sequence[Plan], columns: Columns) -> None:
        """Write rows and make them searchable; all checks come before the first write."""
        rows = [row for plan in plans for row in plan.rows]
        if SOURCE_STATE not in self.table.schema.names and any(row.source_state is not None for row in rows):
            columns.new[SOURCE_STATE] = "string"
        new = self._arrow(plans, _fitting(self.table.schema, columns))
        self._adapt(columns)
        new = new.select(self.table.schema.names)
        replaced = _rows(row for plan in plans for row in plan.replaced())
        write = self.table.upsert if len(replaced) else self.table.append
        numbers = new["row"].to_numpy()
        if self._commit(lambda: write(new), lambda: len(self.table.there(numbers)) / len(numbers)):
            self._in_memory(lambda: self._show(new, rows, replaced))
        if self.beside:
            self.beside.remove(replaced)
            self.beside.take(new, rows)

    def _adapt(self, columns: Columns) -> None:
        """Add and widen the table's columns as the rows need it."""
        if columns.widened:
            self._commit(
                lambda: self.table.widen(sorted(columns.widened)), lambda: self._have(dict.fromkeys(columns.widened, "float"))
            )
        if columns.new:
            self._commit(lambda: self.table.add_columns(columns.new), lambda: self._have(columns.new))

    def _have(self, columns: Mapping[str, str]) -> float:
        """Return 1 if the table has columns of these kinds, else 0."""
        there = {field.name: field.type for field in self.table.schema}
        return float(all(there.get(name) == check_kind(name, kind) for name, kind in columns.items()))

    def _arrow(self, plans: Sequence[Plan], schema: pa.Schema) -> pa.Table:
        firsts = [self._numbers.take(len(plan.rows)) for plan in plans]
        numbered = zip(plans, firsts, strict=True)
        return pa.concat_tables([to_arrow(plan.rows, first, plan.add.fingerprint, schema) for plan, first in numbered])

    def _show(self, new: pa.Table, rows: Sequence[NewRow], replaced: Rows) -> None:
        """Make committed rows searchable and hide the rows that they replace."""
        self.known.add(row.id for row in rows)
        self.cards.append(new.drop_columns([name for name in new.column_names if name in HEAVY]))
        numbers = new["row"].to_numpy()
        for tower, engine in self.engines.items():
            here = new[f"has_{tower}"].to_numpy()
            if here.any():
                engine.append(numbers[here], vectors_in(new, tower))
        self._hide(replaced)

    def _hide(self, rows: Rows) -> None:
        if len(rows):
            self.cards.hide(rows)
            for engine in self.engines.values():
                engine.hide(rows)

    def _delete_one(self, operation: Operation) -> None:
        try:
            operation.end(self.retired or self._done(operation))
        except BaseException as problem:  # as above
            operation.end(problem)

    def _done(self, operation: Operation) -> Any:
        if isinstance(operation, Alone):
            return operation.work()
        assert isinstance(operation, Delete)  # noqa: S101  (there is no further kind)
        return self._delete(operation)

    def _delete(self, operation: Delete) -> int:
        self._be_sure()
        if operation.where:
            rows = self.table.matching(operation.where)
        else:
            rows = np.sort(_rows(self.table.rows_of(self.known.maybe(operation.ids)).values()))
        if len(rows) and self._commit(lambda: self.table.delete(rows), lambda: 1 - len(self.table.there(rows)) / len(rows)):
            self._in_memory(lambda: self._hide(rows))
        if self.beside:
            self.beside.remove(rows)
        return len(rows)

    def _be_sure(self) -> None:
        if self.unsure:
            self.agree()

    def _commit(self, write: Callable[[], None], extent: Callable[[], float]) -> bool:
        """Change the table; ``extent`` looks up how much of the change is there, as a share, should LanceDB say that it failed.

        Returns:
            False if memory knows of the change already, since the table was read again.

        Raises:
            ClipError: it failed, or nobody knows.
        """
        try:
            write()
            return True
        except BaseException as problem:  # as above
            self._read(self.table.refresh)
            share = self._read(extent)
            if share:
                self._read(self.agree)
            if share < 1:
                raise
            _LOG.warning("a change is in the table although writing it failed: %s", problem)
            return False

    def _in_memory(self, change: Callable[[], None]) -> None:
        """Apply a committed change in memory; if that fails, read the table instead."""
        try:
            change()
        except BaseException:  # as above
            _LOG.exception("a change is in the table, but not in memory: the table is read again")
            self._read(self.agree)
        self._acknowledged.note()
        self.count += 1

    def _read(self, read: Callable[[], _Out]) -> _Out:
        """Read from the table the outcome of a change; if that fails too, it stays unknown until the table can be read."""
        self.unsure = True
        try:
            answer = read()
            self.unsure = False
            return answer
        except BaseException as problem:  # as above
            message = (
                f"it isn't known if the change was stored ({cleaned(problem)}): look for its rows before you send it again"
            )
            raise Unavailable(message) from problem


def _fitting(schema: pa.Schema, columns: Columns) -> pa.Schema:
    """Return the schema that a table has once these columns are adapted."""
    old = [field.with_type(pa.float64()) if field.name in columns.widened else field for field in schema]
    new = [pa.field(name, check_kind(name, kind)) for name, kind in columns.new.items()]
    return pa.schema([*old, *new], schema.metadata)


def _rows(numbers: Iterable[int]) -> Rows:
    """Return row numbers as an int64 array, empty ones too."""
    return np.array(list(numbers), np.int64)
