"""Snapshots of one tower's index: parts and a tail, read without a lock, replaced in one step."""

import threading
from dataclasses import dataclass

import numpy as np

from clip_search.arrays import Floats, Found, Rows, present
from clip_search.index.part import Part, Tail


@dataclass(frozen=True)
class Snapshot:
    """Parts whose rows ascend from one to the next, and the tail of later rows."""

    parts: tuple[Part, ...]
    tail: Tail

    @property
    def holders(self) -> tuple[Part | Tail, ...]:
        """The parts, and the tail behind them."""
        return *self.parts, self.tail

    @property
    def boundary(self) -> int:
        """Last row that has an index; -1 if none."""
        return max((part.last for part in self.parts), default=-1)

    @property
    def last(self) -> int:
        """Last row that is here, or was; -1 if none."""
        return int(self.tail.rows[self.tail.count - 1]) if self.tail.count else self.boundary


class Index:
    """Index of one tower: a search reads a snapshot, a change replaces it under a lock."""

    def __init__(self, size: int, parts: tuple[Part, ...] = ()) -> None:
        self.size = size
        self._lock = threading.Lock()
        self.snapshot = Snapshot(parts, Tail.empty(size))

    def __len__(self) -> int:
        now = self.snapshot
        return sum(len(part.rows) - part.dead for part in now.parts) + now.tail.count - now.tail.dead

    def search(self, query: Floats, k: int, only: Rows | None = None, *, exactly: bool = False) -> Found:
        """Return the ``k`` nearest to a query [D], among ``only`` (ascending) if given; by the tuned effort, or exactly."""
        now = self.snapshot
        results = [part.search(query, k, only, exactly=exactly) for part in now.parts]
        if now.tail.count:
            results.append(now.tail.search(query, k, only))
        return _best(results, k)

    def vectors(self, rows: Rows) -> Floats:
        """Return the vectors of these rows, float32 [n, D]; zeros for a row that isn't here."""
        vectors = np.zeros((len(rows), self.size), np.float32)
        for part in self.snapshot.holders:
            here, own = part.vectors(rows)
            vectors[here] = own
        return vectors

    def append(self, rows: Rows, vectors: Floats) -> None:
        """Append rows, all greater than those that are here."""
        with self._lock:
            self.snapshot = Snapshot(self.snapshot.parts, self.snapshot.tail.append(rows, vectors))

    def hide(self, rows: Rows) -> None:
        """Hide deleted rows."""
        with self._lock:
            for part in self.snapshot.holders:
                part.hide(rows)
            self.snapshot = Snapshot(self.snapshot.parts, self.snapshot.tail.packed())

    def agree(self, rows: Rows) -> Rows:
        """Keep these rows (ascending) and hide all others; return those that aren't here."""
        with self._lock:
            here = np.zeros(len(rows), bool)
            for part in self.snapshot.holders:
                part.keep(rows)
                here |= present(part.all_rows(), rows)
        return rows[~here]

    def replace(self, part: Part, *, first: int) -> None:
        """Replace everything from row ``first`` to the part's last by ``part``; rows hidden meanwhile stay hidden."""
        with self._lock:
            now = self.snapshot
            alive = np.zeros(len(part.rows), bool)
            for old in now.holders:
                alive |= present(old.alive_rows(), part.ascending)
            part.hide(part.ascending[~alive])
            before, after = (
                [old for old in now.parts if old.last < first],
                [old for old in now.parts if old.first > part.last],
            )
            self.snapshot = Snapshot((*before, part, *after), now.tail.after(part.last))

    def seal(self, tail: Tail, part: Part) -> bool:
        """Replace the beginning of a tail by a part of the same rows; False if that tail isn't in use any more."""
        with self._lock:
            now = self.snapshot
            if now.tail is not tail:
                return False
            part.hide(part.ascending[~present(tail.alive_rows(), part.ascending)])
            self.snapshot = Snapshot((*now.parts, part), tail.after(part.last))
            return True

    def exchange(self, old: Part, new: Part | None) -> None:
        """Replace a part by one over the same rows, or by nothing; hidden rows stay hidden."""
        with self._lock:
            now = self.snapshot
            if new:
                new.hide(np.setdiff1d(new.rows, old.rows[old.alive]))
            parts = (new if part is old else part for part in now.parts)
            self.snapshot = Snapshot(tuple(part for part in parts if part), now.tail)

    def drop_hidden(self) -> bool:
        """Drop the parts of which no row is left, of rows that were all replaced, say; tell if there were any."""
        with self._lock:
            now = self.snapshot
            parts = tuple(part for part in now.parts if part.dead < len(part.rows))
            self.snapshot = Snapshot(parts, now.tail)
            return len(parts) < len(now.parts)

    def forget(self, first: int) -> None:
        """Drop the parts that reach to row ``first`` or beyond, and the tail."""
        with self._lock:
            parts = tuple(part for part in self.snapshot.parts if part.last < first)
            self.snapshot = Snapshot(parts, Tail.empty(self.size))

    def clear(self, first: int, last: int) -> None:
        """Note that no row from ``first`` to ``last`` is left."""
        with self._lock:
            now = self.snapshot
            parts = tuple(part for part in now.parts if part.last < first or part.first > last)
            self.snapshot = Snapshot(parts, now.tail.after(last))


def _best(results: list[Found], k: int) -> Found:
    if not results:
        return np.empty(0, np.float32), np.empty(0, np.int64)
    scores, rows = (np.concatenate([result[n] for result in results]) for n in (0, 1))
    order = np.argsort(-scores, kind="stable")[:k]
    return scores[order], rows[order]
