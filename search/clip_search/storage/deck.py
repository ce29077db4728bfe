"""Deck of a row cache: a run of rows, in memory or in a memory-mapped file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from clip_search.arrays import Rows
from clip_search.storage import derived_files
from clip_search.storage.derived_files import Sums


@dataclass(frozen=True, eq=False)
class Deck:
    """Run of ascending rows, in memory or in a memory-mapped file."""

    rows: Rows  # int64 [N], in memory
    cards: pa.Table  # of N rows
    path: Path | None = None
    sums: Sums | None = None  # checksums of the file's content
    state: tuple[int, ...] = ()  # what changes when somebody writes to the file

    @classmethod
    def of(cls, cards: pa.Table) -> Deck:
        """Make a deck in memory of a table that has a column ``row``."""
        return cls(cards["row"].to_numpy(), cards)

    @classmethod
    def mapped(cls, path: Path, checksum: str) -> Deck:
        """Map a file; the operating system loads what is read of it.

        Raises:
            derived_files.Damaged, OSError, pa.ArrowInvalid: it isn't what was written.
        """
        state = derived_files.state(path)
        sums = derived_files.check(path, checksum)
        with pa.memory_map(str(path)) as file:
            cards = pa.ipc.open_file(file).read_all()
        return cls(cards["row"].to_numpy().copy(), cards, path, sums, state)

    def is_touched(self) -> bool:
        """Tell if somebody wrote to its file, or removed it; to read what a file was cut of would end the process."""
        return self.path is not None and derived_files.state(self.path) != self.state
