"""The index of one tower's vectors: parts and a tail, read without a lock, replaced in one step."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np

from clip_search.arrays import Floats, Found, Rows
from clip_search.index.part import Part, Tail


@dataclass(frozen=True)
class Snapshot:
    """What a search sees: parts whose rows ascend from one to the next, and the tail of what came after."""

    parts: tuple[Part, ...]
    tail: Tail

    @property
    def boundary(self) -> int:
        """The last row that has an index; -1 if none."""
        return max((part.last for part in self.parts), default=-1)

    @property
    def last(self) -> int:
        """The last row that is here, or was; -1 if none."""
        return int(self.tail.rows[self.tail.count - 1]) if self.tail.count else self.boundary


class Index:
    """Searches a snapshot; whoever changes it holds the lock and leaves a new one."""

    def __init__(self, size: int, parts: tuple[Part, ...] = ()) -> None:
        self.size = size
        self._lock = threading.Lock()
        self.snapshot = Snapshot(parts, Tail.empty(size))

    def __len__(self) -> int:
        now = self.snapshot
        return sum(len(part.rows) - part.dead for part in now.parts) + int(np.count_nonzero(now.tail.alive[: now.tail.count]))

    def search(self, query: Floats, k: int, only: Rows | None = None) -> Found:
        """The ``k`` nearest to a query [D], among ``only`` (ascending) if given."""
        now = self.snapshot
        found = [part.search(query, k, only) for part in now.parts]
        if now.tail.count:
            found.append(now.tail.search(query, k, only))
        return _best(found, k)

    def vectors(self, rows: Rows) -> Floats:
        """The vectors of these rows, float32 [n, D]; zeros for a row that isn't here."""
        now = self.snapshot
        vectors = np.zeros((len(rows), self.size), np.float32)
        holders: tuple[Part | Tail, ...] = (*now.parts, now.tail)
        for part in holders:
            here, found = part.vectors(rows)
            vectors[here] = found
        return vectors

    def append(self, rows: Rows, vectors: Floats) -> None:
        """New rows, all after those that are here."""
        with self._lock:
            self.snapshot = Snapshot(self.snapshot.parts, self.snapshot.tail.append(rows, vectors))

    def hide(self, rows: Rows) -> None:
        """Rows that are gone."""
        with self._lock:
            holders: tuple[Part | Tail, ...] = (*self.snapshot.parts, self.snapshot.tail)
            for part in holders:
                part.hide(rows)

    def agree(self, rows: Rows) -> Rows:
        """Show what is here of these rows (ascending) and nothing else; returns those that aren't here."""
        with self._lock:
            now = self.snapshot
            holders: tuple[Part | Tail, ...] = (*now.parts, now.tail)
            for part in holders:
                part.keep(rows)
            here = [part.rows for part in now.parts] + [now.tail.rows[: now.tail.count]]
        return np.setdiff1d(rows, np.concatenate(here))

    def replace(self, part: Part, *, first: int) -> None:
        """Put ``part`` in the place of everything from row ``first`` to its last; what was hidden meanwhile stays hidden."""
        with self._lock:
            now = self.snapshot
            alive = np.concatenate([*(old.rows[old.alive] for old in now.parts), now.tail.alive_rows()])
            part.hide(np.setdiff1d(part.rows, alive, assume_unique=True))
            self.snapshot = Snapshot((*(old for old in now.parts if old.last < first), part), now.tail.after(part.last))

    def exchange(self, old: Part, new: Part | None) -> None:
        """Put a part over the same rows, or nothing, in the place of one; what is hidden stays hidden."""
        with self._lock:
            now = self.snapshot
            if new:
                new.hide(np.setdiff1d(new.rows, old.rows[old.alive]))
            parts = (new if part is old else part for part in now.parts)
            self.snapshot = Snapshot(tuple(part for part in parts if part), now.tail)

    def forget(self, first: int) -> None:
        """Let go of the parts that reach to row ``first`` or beyond, and of the tail."""
        with self._lock:
            parts = tuple(part for part in self.snapshot.parts if part.last < first)
            self.snapshot = Snapshot(parts, Tail.empty(self.size))

    def clear(self, last: int) -> None:
        """Nothing up to row ``last`` is left."""
        with self._lock:
            self.snapshot = Snapshot((), self.snapshot.tail.after(last))


def _best(found: list[Found], k: int) -> Found:
    if not found:
        return np.empty(0, np.float32), np.empty(0, np.int64)
    scores, rows = (np.concatenate([one[n] for one in found]) for n in (0, 1))
    order = np.argsort(-scores, kind="stable")[:k]
    return scores[order], rows[order]
