"""Timing several ways to do the same work: in turns, so that what slows the machine slows all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import TypeVar

import numpy as np
from tqdm import tqdm

Answer = TypeVar("Answer")
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
    seconds = answers_in_turns({name: partial(_timed, work) for name, work in ways.items()}, rounds, what)
    return {name: Timings(tuple(times)) for name, times in seconds.items()}


def answers_in_turns(ways: Mapping[str, Callable[[], Answer]], rounds: int, what: str = "") -> dict[str, list[Answer]]:
    """What each way returned in each round, for ways that measure themselves; turns as those of :func:`in_turns`."""
    for work in ways.values():
        work()
    answers: dict[str, list[Answer]] = {name: [] for name in ways}
    for turn in tqdm(range(rounds), desc=what, unit=" rounds", disable=not what):
        for name in list(ways)[:: -1 if turn % 2 else 1]:
            answers[name].append(ways[name]())
    return answers


def _timed(work: Work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
