"""Commits of another process: memory follows its table, and nothing is written to that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from clip_client.spec import Tower
from clip_search.arrays import Rows
from clip_search.commits import Commits
from clip_search.errors import NotFound
from clip_search.index.engine import Engine
from clip_search.storage.acknowledged_version import AcknowledgedVersion
from clip_search.storage.row_cache import RowCache
from clip_search.storage.table import MOST_ROWS, Table
from clip_search.storage.writer import Operation


class Followed(Commits):
    """Follows a table; used by one thread at a time.

    Row numbers ascend, so new rows are those above the last one, and rows are gone if the table has fewer than it should.
    """

    def __init__(
        self, table: Table, cards: RowCache, engines: Mapping[Tower, Engine], acknowledged: AcknowledgedVersion
    ) -> None:
        super().__init__(table, cards, engines, acknowledged)
        self._last, self._rows = -1, 0  # greatest row number seen, and the number of rows then

    def apply(self, group: Sequence[Operation]) -> None:
        """Look for what is new, once for all: nobody queues anything else."""
        try:
            outcome: object = self._follow()
        except BaseException as problem:  # panics of LanceDB's Rust code aren't Exceptions
            outcome = problem
        for operation in group:
            operation.end(outcome)

    def agree_on_rows(self) -> Rows:
        """Bring cards and engines in line with the table's rows, and return these."""
        rows = super().agree_on_rows()
        self._last, self._rows = max([*rows[-1:].tolist(), self.cards.boundary]), len(rows)
        return rows

    def _follow(self) -> int:
        """Take in what was committed; return 1 if there was anything, else 0. All rows are read only if some are gone."""
        if self.unsure:
            self.agree()
        before = self.table.version
        self.table.refresh()
        if self.table.is_replaced:
            raise NotFound("the collection was dropped and made again: it is opened again in a moment")
        if self.table.version == before:
            return 0
        self.unsure = True  # if it fails half-way, everything is read again
        new = self.table.cards(self._last + 1, MOST_ROWS)
        self.known.add(new["id"].to_pylist())
        if len(self.table) == self._rows + len(new):
            self._take_in(new)
        else:
            self.agree_on_rows()
        self.count += 1
        self.unsure = False
        return 1

    def _take_in(self, new: pa.Table) -> None:
        """Make new rows searchable."""
        if not len(new):
            return
        first, last = self._last + 1, int(new["row"][-1].as_py())
        self.cards.append(new)
        for tower, engine in self.engines.items():
            if batches := list(self.table.vectors(tower, first, last)):
                rows, vectors = (np.concatenate([batch[n] for batch in batches]) for n in (0, 1))
                order = np.argsort(rows)
                engine.append(rows[order], vectors[order])
        self._last, self._rows = last, self._rows + len(new)
