"""Timing several ways to do the same work: in turns, so that what slows the machine slows all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

import numpy as np
from tqdm import tqdm

Work = Callable[[], object]


@dataclass(frozen=True)
class Timings:
    """Seconds of each turn of one way to do the work."""

    seconds: tuple[float, ...]

    @property
    def median_s(self) -> float:
        """The middle one."""
        return median(self.seconds)

    def percentile_ms(self, percent: float) -> float:
        """A percentile in milliseconds."""
        return float(1000 * np.percentile(self.seconds, percent))


def in_turns(ways: Mapping[str, Work], rounds: int, what: str = "") -> dict[str, Timings]:
    """Run each way once unmeasured, then all of them in turns; the order is turned around every other round."""
    for work in ways.values():
        work()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in tqdm(range(rounds), desc=what, unit=" rounds", disable=not what):
        for name in list(ways)[:: -1 if turn % 2 else 1]:
            start = time.perf_counter()
            ways[name]()
            seconds[name].append(time.perf_counter() - start)
    return {name: Timings(tuple(times)) for name, times in seconds.items()}
