"""What a hit shows: all of a row but its vectors, from memory-mapped files beside the index and from memory for new rows.

A read of some scattered rows from the table takes longer than the whole rest of a search. A row never changes (an upsert
makes a new one), so these copies can't grow stale, only superfluous.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from clip_search.part import Rows, positions

_SUFFIX = ".arrow"
_NOT_SHOWN = {"row", "fingerprint", "time", "has_image", "has_text"}
"""No hit has them, and turning a time into Python's takes longer than all the rest of a card."""
_SMALL = 4_096  # rows; a deck in memory grows up to here


@dataclass(frozen=True, eq=False)
class Deck:
    """Cards of ascending rows: ``rows`` int64 [N], ``cards`` a table of N rows."""

    rows: Rows
    cards: pa.Table
    path: Path | None = None

    @classmethod
    def of(cls, cards: pa.Table, path: Path | None = None) -> Deck:
        """Cards of a table that has a column ``row``."""
        return cls(cards["row"].to_numpy(), cards, path)

    @classmethod
    def mapped(cls, path: Path) -> Deck:
        """Cards of a file, of which only what is looked at gets loaded.

        Raises:
            OSError, pa.ArrowInvalid: it can't be read.
        """
        with pa.memory_map(str(path)) as file:
            return cls.of(pa.ipc.open_file(file).read_all(), path)


class Cards:
    """Decks in the order of their rows; the last ones live in memory until :meth:`save`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._decks: tuple[Deck, ...] = ()

    def load(self) -> None:
        """Map the files that are there; one that is broken is removed, and those after it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
            try:
                self._decks += (Deck.mapped(path),)
            except (OSError, pa.ArrowInvalid):
                path.unlink()

    @property
    def boundary(self) -> int:
        """The last row that has a card; -1 if none."""
        return max((int(deck.rows[-1]) for deck in self._decks), default=-1)

    def append(self, cards: pa.Table) -> None:
        """Cards of new rows, all after those that are here."""
        with self._lock:
            *before, last = self._decks or (None,)
            if last and not last.path and len(last.rows) < _SMALL:
                cards = pa.concat_tables([last.cards, cards], promote_options="permissive")
                self._decks = (*before, Deck.of(cards.combine_chunks()))
            else:
                self._decks += (Deck.of(cards.combine_chunks()),)

    def take(self, rows: Rows, columns: Sequence[str] | None = None) -> list[dict[str, Any] | None]:
        """The card of each row, with what hits show or these columns; None for a row that has none."""
        found: dict[int, dict[str, Any]] = {}
        for deck in self._decks:
            here = positions(deck.rows, rows)
            if len(here):
                values = deck.cards.select(_there(columns, deck.cards.column_names)).take(here).to_pylist()
                found.update(zip(deck.rows[here].tolist(), values, strict=True))
        return [found.get(row) for row in rows.tolist()]

    def save(self) -> None:
        """Move what is in memory to a file."""
        waiting = [deck for deck in self._decks if deck.path is None]
        if waiting:
            tables = [deck.cards for deck in waiting]
            self._swap(waiting, pa.concat_tables(tables, promote_options="permissive"))

    def replace(self, cards: pa.Table, last: int) -> None:
        """Put these in the place of everything up to row ``last``."""
        self._swap([deck for deck in self._decks if deck.rows[-1] <= last], cards)

    def _swap(self, old: Sequence[Deck], cards: pa.Table) -> None:
        new = (self._written(cards),) if len(cards) else ()
        with self._lock:
            place = [n for n, deck in enumerate(self._decks) if deck in old]
            before, after = self._decks[: place[0]] if place else (), self._decks[place[-1] + 1 :] if place else self._decks
            self._decks = (*before, *new, *after)
        for deck in old:
            if deck.path and deck.path not in [one.path for one in new]:
                deck.path.unlink(missing_ok=True)

    def _written(self, cards: pa.Table) -> Deck:
        first, last = (int(np.asarray(cards["row"])[n]) for n in (0, -1))
        path = self._folder / f"{first:020d}-{last:020d}{_SUFFIX}"
        cards = cards.combine_chunks()
        with pa.OSFile(str(path.with_suffix(".part")), "wb") as file, pa.ipc.new_file(file, cards.schema) as writer:
            writer.write_table(cards)
        path.with_suffix(".part").replace(path)
        return Deck.mapped(path)


def _there(columns: Sequence[str] | None, names: Sequence[str]) -> list[str]:
    if columns is None:
        return [name for name in names if name not in _NOT_SHOWN]
    return [name for name in columns if name in names]
