"""Row cache: all of a row but its vectors, from memory-mapped files beside the index and from memory for new rows.

A read of some scattered rows from the table takes longer than the whole rest of a search. A row never changes (an upsert
makes a new one), so these copies can't grow stale, only superfluous.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from clip_search.arrays import Rows, positions, present
from clip_search.storage import derived_files
from clip_search.storage.deck import Deck
from clip_search.storage.derived_files import Sums

_LOG = logging.getLogger(__name__)
_SUFFIX = ".arrow"
_NOT_SHOWN = {"row", "fingerprint", "time", "has_image", "has_text"}
"""Columns that hits don't show; turning a time into Python's takes longer than all the rest of a row."""
_SMALL = 4_096  # rows; a deck in memory grows up to here
_GONE_SHARE = 0.3
"""Share of the cache that deleted rows may take; half of it would double the memory, a tenth would write all of it often."""
_MOST_IN_MEMORY = 100_000  # rows in memory from which on they are written to files without waiting for the upkeep
_DECK_ROWS = 500_000  # rows in a file that is made of several: some hundred megabytes are written in seconds

Reader = Callable[[int, int], pa.Table]  # source of rows: (first, last) -> their table
Alive = Callable[[int], Rows]  # source of row numbers: last -> those up to it that the table has, ascending


class RowCache:
    """Cache of rows in decks, ascending; the last decks live in memory until :meth:`save`."""

    def __init__(self, folder: Path, table: str, read: Reader, alive: Alive) -> None:
        self._folder, self._table, self._read, self._alive = folder, table, read, alive
        self._lock = threading.Lock()
        self._filing = threading.Lock()  # of whoever makes files of decks, or decks of files
        self._manifest: dict[Path, Sums] = {}
        self._decks: tuple[Deck, ...] = ()
        self._last = -1
        self._gone = 0  # deleted rows that are here, more or less
        self.damaged_at = 0.0  # time of the last damage found, in seconds since 1970
        self.unsaved = False  # the files aren't what they should be: a save is due

    def load(self) -> None:
        """Map the files; read the rows of a damaged one from the table, and write it again later."""
        try:
            content = derived_files.read_manifest(self._folder, self._table, {"decks": {}, "last": -1})
        except derived_files.Damaged as problem:
            _LOG.warning("%s: all cards are read from the table again", problem)
            self.unsaved = True
            return
        self._last, self._manifest = content["last"], derived_files.manifest_sums(self._folder)
        decks = [self._loaded(name, checksum) for name, checksum in content["decks"].items()]
        self._decks = tuple(deck for deck in decks if len(deck.rows))

    @property
    def boundary(self) -> int:
        """Last row that is, or was, in the cache; -1 if none."""
        return max([self._last, *(int(deck.rows[-1]) for deck in self._decks)])

    def complete(self, rows: Rows) -> None:
        """Read missing ones of a table's ``rows`` (ascending)."""
        here = np.zeros(len(rows), bool)
        for deck in self._decks:
            here |= present(deck.rows, rows)
        missing = rows[~here]
        self._gone = sum(int(np.count_nonzero(~present(rows, deck.rows))) for deck in self._decks)
        if len(missing) and missing[0] <= self.boundary:
            if self._decks:
                _LOG.warning("cards are missing in %s: all are read from the table again", self._folder)
            every = tuple(Deck.of(cards.combine_chunks()) for cards in self._in_runs(rows))
            with self._lock:
                self._decks, self.unsaved = every, True
        else:
            for cards in self._in_runs(missing):
                self.append(cards)

    def _in_runs(self, rows: Rows) -> Iterator[pa.Table]:
        """Read rows (ascending) from the table, so many at a time as a file may have."""
        for start in range(0, len(rows), _DECK_ROWS):
            run = rows[start : start + _DECK_ROWS]
            yield self._read(int(run[0]), int(run[-1]))

    @property
    def is_due(self) -> bool:
        """True once :meth:`save` is due: files to be written again, or many deleted rows to be dropped."""
        return self.unsaved or self._gone > max(_SMALL, _GONE_SHARE * sum(len(deck.rows) for deck in self._decks))

    def hide(self, rows: Rows) -> None:
        """Count deleted rows; nobody asks for them any more."""
        self._gone += len(rows)

    def append(self, cards: pa.Table) -> None:
        """Append new rows, all greater than those that are here."""
        if not len(cards):
            return
        with self._lock:
            *before, last = self._decks or (None,)
            if last and not last.path and len(last.rows) < _SMALL:
                cards = pa.concat_tables([last.cards, cards], promote_options="permissive")
                self._decks = (*before, Deck.of(cards.combine_chunks()))
            else:
                self._decks += (Deck.of(cards.combine_chunks()),)
        if sum(len(deck.rows) for deck in self._decks if not deck.path) > _MOST_IN_MEMORY and not self._filing.locked():
            with self._filing:
                self._store()  # a build may take minutes

    def take(self, rows: Rows, columns: Sequence[str] | None = None) -> list[dict[str, Any] | None]:
        """Return the values of each row, in the columns that hits show or in these; None for a row that isn't here."""
        by_row: dict[int, dict[str, Any]] = {}
        for deck in self._decks:
            here = positions(deck.rows, rows)
            if len(here) and deck.path and deck.is_touched():
                self.distrust(deck.path, f"{deck.path} was changed by somebody")
                return self.take(rows, columns)
            if len(here):
                values = deck.cards.select(_there(columns, deck.cards.column_names)).take(here).to_pylist()
                by_row.update(zip(deck.rows[here].tolist(), values, strict=True))
        return [by_row.get(row) for row in rows.tolist()]

    def table(self, columns: Sequence[str], rows: Rows | None = None) -> pa.Table:
        """Return columns of those of ``rows`` (ascending) that are here, with ``row``; of all, deleted ones too, if None."""
        tables = []
        for deck in self._trusted():
            cards = deck.cards.select(list(dict.fromkeys(["row", *_there(columns, deck.cards.column_names)])))
            tables.append(cards if rows is None else cards.take(positions(deck.rows, rows)))
        return _complete(tables, columns)

    def mean_bytes(self, column: str) -> float:
        """Return the memory that a row's value in a column takes, on average."""
        sizes = [deck.cards[column].nbytes for deck in self._trusted() if column in deck.cards.column_names]
        return float(sum(sizes)) / max(sum(len(deck.rows) for deck in self._decks), 1)

    def _trusted(self) -> tuple[Deck, ...]:
        """Return the decks; what somebody changed is read from the table again before."""
        for deck in self._decks:
            if deck.path and deck.is_touched():
                self.distrust(deck.path, f"{deck.path} was changed by somebody")
        return self._decks

    def save(self) -> None:
        """Move rows from memory to files, drop deleted rows if they are many, remove other files from the folder."""
        with self._filing:
            self._store()
            if self.is_due:
                self._prune()
            self._list()

    def remake(self) -> None:
        """Write all files anew, from the table."""
        with self._filing:
            self._store()
            if old := [deck for deck in self._decks if deck.path]:
                rows = self._alive(int(old[-1].rows[-1]))
                self._exchange(old, [self._written(cards) for cards in self._in_runs(rows) if len(cards)])
                self._gone = 0
            self._list()

    def _store(self) -> None:
        """Move rows from memory to files."""
        derived_files.make_folder(self._folder)
        for in_memory, run in itertools.groupby(self._decks, lambda deck: deck.path is None):
            waiting = list(run)
            if in_memory:
                self._swap(waiting, pa.concat_tables([deck.cards for deck in waiting], promote_options="permissive"))

    def files(self) -> dict[Path, Sums]:
        """Return the files in use with their checksums."""
        return {deck.path: deck.sums for deck in self._decks if deck.path and deck.sums} | self._manifest

    def distrust(self, path: Path, why: str) -> None:
        """Stop using a damaged file: read its rows from the table and write it again later."""
        with self._filing:
            if path not in self.files():
                return  # another has taken its place
            _LOG.warning("%s: what it holds is made again from the table", why)
            self.unsaved, self.damaged_at = True, time.time()
            for deck in self._decks:
                if deck.path == path:
                    self._put(deck, self._reread(path.name))

    def _prune(self) -> None:
        """Write the files again without deleted rows, several small ones as one."""
        decks = [deck for deck in self._decks if deck.path]
        if not decks or any(deck.is_touched() for deck in decks):
            return  # the next read or check notices that
        self._gone = 0
        alive = self._alive(int(decks[-1].rows[-1]))
        for run in _runs(decks, alive):
            gone = len(run[0].rows) - int(np.count_nonzero(present(alive, run[0].rows)))
            if len(run) == 1 and gone <= _GONE_SHARE * len(run[0].rows):
                self._gone += gone
                continue
            cards = [deck.cards.filter(pa.array(present(alive, deck.rows))) for deck in run]
            self._swap(run, pa.concat_tables(cards, promote_options="permissive"))

    def _put(self, old: Deck, new: Deck) -> None:
        with self._lock:
            decks = (new if deck is old else deck for deck in self._decks)
            self._decks = tuple(deck for deck in decks if len(deck.rows))

    def _loaded(self, name: str, checksum: str) -> Deck:
        try:
            return Deck.mapped(self._folder / name, checksum)
        except (derived_files.Damaged, OSError, pa.ArrowInvalid) as problem:
            _LOG.warning("%s: its rows are read from the table again", problem)
            self.unsaved = True
            return self._reread(name)

    def _reread(self, name: str) -> Deck:
        """Read the rows of a file from the table instead."""
        first, last = (int(number) for number in name.split("-")[:2])
        return Deck.of(self._read(first, last).combine_chunks())

    def _swap(self, old: Sequence[Deck], cards: pa.Table) -> None:
        self._exchange(old, [self._written(cards)] if len(cards) else [])

    def _exchange(self, old: Sequence[Deck], new: Sequence[Deck]) -> None:
        self.unsaved = True  # until the manifest says so
        with self._lock:
            place = [n for n, deck in enumerate(self._decks) if deck in old]
            before, after = self._decks[: place[0]] if place else (), self._decks[place[-1] + 1 :] if place else self._decks
            self._decks = (*before, *new, *after)

    def _list(self) -> None:
        """Name the valid files, in one step; remove the others."""
        decks = self._decks
        files = {deck.path.name: str(deck.sums) for deck in decks if deck.path}
        saved = [int(deck.rows[-1]) for deck in itertools.takewhile(lambda deck: deck.path, decks)]
        self._last = max([self._last, *saved])
        derived_files.write_manifest(self._folder, {"table": self._table, "last": self._last, "decks": files})
        self._manifest = derived_files.manifest_sums(self._folder)
        self.unsaved = False
        derived_files.remove_others(self._folder, set(files))

    def _written(self, cards: pa.Table) -> Deck:
        first, last = (int(np.asarray(cards["row"])[n]) for n in (0, -1))
        path = self._folder / f"{first:020d}-{last:020d}-{uuid.uuid4().hex[:12]}{_SUFFIX}"
        cards = cards.combine_chunks()
        sink = derived_files.Sink()
        with pa.OSFile(str(path), "wb") as file:
            for target in (file, sink):
                with pa.ipc.new_file(target, cards.schema) as writer:
                    writer.write_table(cards)
        return Deck.mapped(path, str(sink.sums()))


def _runs(decks: Sequence[Deck], alive: Rows) -> Iterator[list[Deck]]:
    """Yield consecutive decks that together have some ``_DECK_ROWS`` rows alive."""
    run, rows = list[Deck](), 0
    for deck in decks:
        run.append(deck)
        rows += int(np.count_nonzero(present(alive, deck.rows)))
        if rows >= _DECK_ROWS:
            yield run
            run, rows = [], 0
    if run:
        yield run


def _complete(tables: Sequence[pa.Table], columns: Sequence[str]) -> pa.Table:
    """Return tables as one, with nulls in columns that were added later."""
    whole = pa.concat_tables(tables, promote_options="permissive") if tables else pa.table({"row": np.empty(0, np.int64)})
    for name in columns:
        if name not in whole.column_names:
            whole = whole.append_column(name, pa.nulls(len(whole)))
    return whole


def _there(columns: Sequence[str] | None, names: Sequence[str]) -> list[str]:
    if columns is None:
        return [name for name in names if name not in _NOT_SHOWN]
    return [name for name in columns if name in names]
