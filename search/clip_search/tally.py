"""Tally of a sidecar: what it did since it started, as sums that only grow."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

RowChange = Literal["added", "replaced", "skipped", "refused", "deleted"]
ROW_CHANGES: tuple[RowChange, ...] = get_args(RowChange)
UpkeepWork = Literal["checks", "compaction", "index"]
UPKEEP_WORKS: tuple[UpkeepWork, ...] = get_args(UpkeepWork)


class Tally:
    """Sums over all collections, those that were dropped since among them; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: Counter[RowChange] = Counter()
        self._seconds: dict[UpkeepWork, float] = dict.fromkeys(UPKEEP_WORKS, 0.0)
        self._failures = 0

    def rows(self, change: RowChange, count: int) -> None:
        """Count rows that were changed, or left as they are."""
        with self._lock:
            self._rows[change] += count

    def added(self, added: int, replaced: int, skipped: int, refused: int) -> None:
        """Count the rows of one addition."""
        with self._lock:
            self._rows.update(added=added, replaced=replaced, skipped=skipped, refused=refused)

    @contextmanager
    def upkeep(self, work: UpkeepWork) -> Iterator[None]:
        """Measure a piece of upkeep, one that fails, too."""
        start = time.perf_counter()
        try:
            yield
        finally:
            with self._lock:
                self._seconds[work] += time.perf_counter() - start

    def upkeep_failed(self) -> None:
        """Count a round of upkeep that failed."""
        with self._lock:
            self._failures += 1

    def row_changes(self) -> dict[RowChange, int]:
        """Return the numbers of rows by what became of them."""
        with self._lock:
            return {change: self._rows[change] for change in ROW_CHANGES}

    def upkeep_seconds(self) -> dict[UpkeepWork, float]:
        """Return the time spent on upkeep by kind."""
        with self._lock:
            return dict(self._seconds)

    @property
    def upkeep_failures(self) -> int:
        """Rounds of upkeep that failed."""
        return self._failures
