"""Checks of files while they are in use: one block after the other is read again, so that damage is noticed soon."""

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeAlias

from clip_search.storage import derived_files
from clip_search.storage.derived_files import Sums

_BLOCKS = 4  # 4 MiB a round, two rounds a second: 2 ms of a core a second, and 8 minutes for 4 GB
_PASS_S = 10.0  # time between the starts of two passes at least: a small collection isn't read all the time


class Keeper(Protocol):
    """Holder of open files."""

    damaged_at: float  # time of the last damage found in one, in seconds since 1970; 0 for none

    def files(self) -> Mapping[Path, Sums]:
        """Return the files in use with their checksums."""

    def distrust(self, path: Path, why: str) -> None:
        """Stop using a damaged file, if it is still in use, and log it."""


_Block: TypeAlias = tuple[Keeper, Path, int]


class BlockChecks:
    """Passes over all files of some keepers; used by one thread at a time, which changes these files too."""

    def __init__(self, keepers: Sequence[Keeper]) -> None:
        self._keepers = keepers
        self._pass: Iterator[_Block] = iter(())
        self._next_pass = time.monotonic() + _PASS_S  # all was read at the opening

    def round(self) -> None:
        """Check the next blocks."""
        blocks = list(itertools.islice(self._pass, _BLOCKS))
        if not blocks and time.monotonic() >= self._next_pass:
            self._next_pass = time.monotonic() + _PASS_S
            self._pass = self._blocks()
        for keeper, path, number in blocks:
            if sums := keeper.files().get(path):
                try:
                    sums.check_block(path, number)
                except derived_files.Damaged as problem:
                    keeper.distrust(path, str(problem))

    def _blocks(self) -> Iterator[_Block]:
        for keeper in self._keepers:
            for path, sums in keeper.files().items():
                for number in range(max(1, len(sums.running))):
                    yield keeper, path, number
