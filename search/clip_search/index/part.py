"""Parts of an index, and the tail of new rows, which are compared one by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clip_search.arrays import Floats, Found, Mask, Positions, Rows, positions, present
from clip_search.index import list_files
from clip_search.index.faiss_index import VectorIndex, nearest
from clip_search.index.kinds import Kind
from clip_search.index.list_files import LISTS, ROWS, SummedFile
from clip_search.index.mapped_index import INDEX, MappedIndex
from clip_search.index.tuning import Tuned
from clip_search.storage import derived_files
from clip_search.storage.derived_files import Sink, Sums

_FILES = (INDEX, ROWS)  # of an index in memory
_FILTERED_EXACTLY = 0.2  # share of rows kept by a filter below which it is searched exactly: a graph would find too few of them
_PACKED_ROWS, _PACKED_SHARE = 1_024, 0.5
"""Hidden rows in a tail, and their share of it, from which it is copied without them: each copy is paid by as many changes."""


@dataclass(eq=False)
class Part:
    """Index over rows; deleted rows are masked until the next rebuild."""

    index: VectorIndex
    rows: Rows  # int64 [N], the row at each position of the index
    order: npt.NDArray[np.int32]  # [N], positions in the order of their rows
    ascending: Rows  # int64 [N], these rows
    alive: Mask  # bool [N], by position
    tuned: Tuned
    folder: Path | None = None
    files: dict[str, Sums] = field(default_factory=dict)  # name and checksums of each file in its folder
    dead: int = 0
    makeshift: bool = False  # exact, from the table, in the place of one that was damaged; to be indexed again
    states: dict[Path, tuple[int, ...]] = field(default_factory=dict)  # of the files that are searched where they lie
    is_lost: bool = False  # if one of these was damaged: the table is searched instead until all is indexed again

    @classmethod
    def of(cls, index: VectorIndex, rows: Rows, tuned: Tuned) -> Part:
        """Make a part whose rows are all alive."""
        order = np.argsort(rows, kind="stable").astype(np.int32)
        return cls(index, rows, order, rows[order], np.ones(len(rows), bool), tuned)

    @property
    def first(self) -> int:
        """The least row."""
        return int(self.ascending[0])

    @property
    def last(self) -> int:
        """The greatest row."""
        return int(self.ascending[-1])

    def all_rows(self) -> Rows:
        """Return the rows, hidden ones too, ascending."""
        return self.ascending

    def alive_rows(self) -> Rows:
        """Return the rows that aren't hidden, ascending."""
        return self.ascending[self.alive[self.order]]

    def hide(self, rows: Rows) -> None:
        """Never return these again."""
        self.alive[self._positions(rows)] = False
        self.dead = len(self.rows) - int(np.count_nonzero(self.alive))

    def keep(self, rows: Rows) -> None:
        """Return only those among ``rows`` (ascending), and each of them."""
        alive = np.empty(len(self.rows), bool)
        alive[self.order] = present(rows, self.ascending)
        self.alive = alive
        self.dead = len(self.rows) - int(np.count_nonzero(self.alive))

    def search(self, query: Floats, k: int, only: Rows | None, *, exactly: bool = False) -> Found:
        """Return the nearest to a query [D] among the alive rows, and in ``only`` (ascending) if given."""
        k = min(k, len(self.rows))
        allowed, are_few = self._allowed(only)
        if not (exactly or are_few):
            scores, hits = self.index.search(query[None], k, self._effort(k, allowed), allowed)
            exactly = self._are_short(hits[0], k, allowed)
        if exactly or are_few:
            scores, hits = self.index.exact(query[None], k, allowed)
        real = hits[0] >= 0
        return scores[0][real], self.rows[hits[0][real]]

    def vectors(self, rows: Rows) -> tuple[Mask, Floats]:
        """Return a mask [n] of the rows that are here, and their vectors [m, D]."""
        here = present(self.ascending, rows)
        return here, self.index.vectors(self._positions(rows[here]))

    def _allowed(self, only: Rows | None) -> tuple[Mask | None, bool]:
        if only is None:
            return (self.alive if self.dead else None), False
        allowed = np.zeros(len(self.rows), bool)
        allowed[self._positions(only)] = True
        allowed &= self.alive
        return allowed, bool(np.count_nonzero(allowed) < _FILTERED_EXACTLY * len(allowed))

    def _are_short(self, hits: Positions, k: int, allowed: Mask | None) -> bool:
        """Tell if a search of some lists found fewer than there are."""
        found = int(np.count_nonzero(hits >= 0))
        return found < min(k, len(self.rows) if allowed is None else int(np.count_nonzero(allowed)))

    def _positions(self, rows: Rows) -> Rows:
        """Return the positions of those of ``rows`` that are here."""
        return self.order[positions(self.ascending, rows)].astype(np.int64)

    def _effort(self, k: int, allowed: Mask | None) -> int:
        share = 1.0 if allowed is None else max(np.count_nonzero(allowed) / len(allowed), _FILTERED_EXACTLY)
        return int(max(self.tuned.effort, k if self.index.kind == "hnsw" else 1) / share)

    @property
    def is_pending(self) -> bool:
        """True for new rows in a file, which wait for their index."""
        return self.index.kind == "flat" and bool(self.states)

    def is_touched(self) -> bool:
        """Tell if somebody wrote to a file that is searched where it lies: to read what it was cut of would end the process."""
        return any(derived_files.state(path) != state for path, state in self.states.items())

    def save(self, folder: Path) -> None:
        """Write the part to a new folder."""
        self.files, self.folder = write_files(folder, self.index.write, self.rows), folder

    def is_intact(self) -> bool:
        """Tell if memory still matches the checksums of the files; what is searched where it lies has no other copy."""
        in_order = np.array_equal(self.rows[self.order], self.ascending) and bool(np.all(np.diff(self.ascending) > 0))
        return in_order and not self.states and self.files == self._sums()

    def _sums(self) -> dict[str, Sums]:
        """Return the checksums of the files that :meth:`save` wrote, by what is in memory."""
        index, rows = Sink(), Sink()
        self.index.write(index.write)
        np.lib.format.write_array(rows, self.rows)
        return dict(zip(_FILES, (index.sums(), rows.sums()), strict=True))

    def about(self) -> dict[str, Any]:
        """Return what :meth:`load` needs to know of a part that was saved, ready for JSON."""
        files = {name: str(sums) for name, sums in self.files.items()}
        return {"kind": self.index.kind, "tuned": asdict(self.tuned), "files": files, "pending": self.is_pending}

    @classmethod
    def load(cls, folder: Path, about: dict[str, Any]) -> Part:
        """Read what :meth:`save` wrote and :meth:`about` told.

        Raises:
            derived_files.Damaged: a file isn't what was written.
            OSError, ValueError, RuntimeError: one can't be read.
        """
        states = {folder / name: derived_files.state(folder / name) for name in about["files"]}
        files = list_files.checked(folder, {name: about["files"][name] for name in {*_FILES, *about["files"]}})
        if LISTS in files or about.get("pending"):
            return cls.mapped(folder, about["kind"], files, Tuned(**about["tuned"]), states)
        index = VectorIndex.load(folder / INDEX, about["kind"])
        part = cls.of(index, np.load(folder / ROWS, allow_pickle=False), Tuned(**about["tuned"]))
        part.folder, part.files = folder, files
        return part

    @classmethod
    def mapped(
        cls, folder: Path, kind: Kind, files: dict[str, Sums], tuned: Tuned, states: dict[Path, tuple[int, ...]] | None = None
    ) -> Part:
        """Open a part whose files are searched where they lie; raises as :meth:`load`, without a check."""
        states = states or {folder / name: derived_files.state(folder / name) for name in files}
        index = MappedIndex(folder, kind) if LISTS in files else VectorIndex.load(folder / INDEX, kind, mapped=True)
        part = cls.of(index, np.asarray(np.load(folder / ROWS, mmap_mode="r", allow_pickle=False)), tuned)
        part.folder, part.files, part.states = folder, files, states
        return part


def write_files(folder: Path, write_index: Callable[[Callable[[Any], int]], None], rows: Rows) -> dict[str, Sums]:
    """Write the files of a part to a new folder; return their checksums. ``write_index`` hands the index over in pieces."""
    folder.mkdir()
    with SummedFile(folder / INDEX) as index, SummedFile(folder / ROWS) as numbers:
        write_index(index.write)
        np.lib.format.write_array(numbers, rows, allow_pickle=False)
        return dict(zip(_FILES, (index.close(), numbers.close()), strict=True))


@dataclass(eq=False)
class Tail:
    """New rows, compared one by one; the tail grows at its end while it is read."""

    rows: Rows  # int64 [capacity]
    alive: Mask  # bool [capacity]
    matrix: Floats  # float32 [capacity, D]
    count: int = 0  # the first ones, which are in use
    dead: int = 0  # rows that are hidden

    @classmethod
    def empty(cls, size: int, capacity: int = 1024) -> Tail:
        """Make an empty tail with room for some rows."""
        return cls(np.empty(capacity, np.int64), np.zeros(capacity, bool), np.empty((capacity, size), np.float32))

    def append(self, rows: Rows, vectors: Floats) -> Tail:
        """Return the tail with these rows too: itself if there is room (``count`` is set last), else a larger copy."""
        end = self.count + len(rows)
        tail = self if end <= len(self.rows) else self._grown(max(end, 2 * len(self.rows)))
        tail.rows[tail.count : end], tail.matrix[tail.count : end], tail.alive[tail.count : end] = rows, vectors, True
        tail.count = end
        return tail

    def after(self, row: int) -> Tail:
        """Return a copy of the rows that come after ``row``, with as much room: it takes no memory until it is used."""
        later = np.arange(np.searchsorted(self.rows[: self.count], row, "right"), self.count)
        return self._only(later, len(self.rows))

    def packed(self) -> Tail:
        """Return the tail without its hidden rows once they are many, else itself; the last row stays, hidden or not."""
        if self.dead <= max(_PACKED_ROWS, _PACKED_SHARE * self.count):
            return self
        return self._only(np.union1d(np.flatnonzero(self.alive[: self.count].copy()), [self.count - 1]))

    def all_rows(self) -> Rows:
        """As :meth:`Part.all_rows`."""
        return self.rows[: self.count]

    def alive_rows(self) -> Rows:
        """As :meth:`Part.alive_rows`."""
        return self.rows[: self.count][self.alive[: self.count].copy()]  # as in :meth:`search`

    def hide(self, rows: Rows) -> None:
        """Never return these again."""
        self.alive[: self.count][positions(self.rows[: self.count], rows)] = False
        self._count_dead()

    def keep(self, rows: Rows) -> None:
        """As :meth:`Part.keep`."""
        self.alive[: self.count] = present(rows, self.rows[: self.count])
        self._count_dead()

    def search(self, query: Floats, k: int, only: Rows | None) -> Found:
        """As :meth:`Part.search`, exactly."""
        count = self.count
        allowed = self.alive[:count].copy()  # it is looked at twice: a row that is hidden in between would break that
        if only is not None:
            allowed &= present(only, self.rows[:count])
        scores, best = nearest(query, self.matrix[:count], k, None if allowed.all() else allowed)
        return scores, self.rows[best]

    def vectors(self, rows: Rows) -> tuple[Mask, Floats]:
        """As :meth:`Part.vectors`."""
        known = self.rows[: self.count]
        here = present(known, rows)
        return here, self.matrix[positions(known, rows[here])]

    def _only(self, chosen: Positions, capacity: int = 1024) -> Tail:
        """Return a copy of the rows at these positions (ascending), with room for as many more, and for ``capacity`` in all."""
        copy = Tail.empty(self.matrix.shape[1], max(capacity, 2 * len(chosen)))
        copy = copy.append(self.rows[chosen], self.matrix[chosen])
        copy.alive[: copy.count] = self.alive[chosen]
        copy._count_dead()
        return copy

    def _count_dead(self) -> None:
        self.dead = self.count - int(np.count_nonzero(self.alive[: self.count]))

    def _grown(self, capacity: int) -> Tail:
        larger = Tail.empty(self.matrix.shape[1], capacity)
        for name in ("rows", "alive", "matrix"):
            getattr(larger, name)[: self.count] = getattr(self, name)[: self.count]
        larger.count, larger.dead = self.count, self.dead
        return larger
