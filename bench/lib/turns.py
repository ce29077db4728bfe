"""Timing of several ways to do the same work, in turns: what slows the machine down slows all of them alike."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import TypeVar

import numpy as np
from clip_client.progress_bars import ProgressBar

Answer = TypeVar("Answer")
Name = TypeVar("Name")
Work = Callable[[], object]


@dataclass(frozen=True)
class Timings:
    """Seconds of each run of one way."""

    seconds: tuple[float, ...]

    @property
    def median_s(self) -> float:
        """Median in seconds."""
        return median(self.seconds)

    def percentile_ms(self, percent: float) -> float:
        """Return a percentile in milliseconds."""
        return float(1000 * np.percentile(self.seconds, percent))


def in_turns(ways: Mapping[Name, Work], rounds: int, label: str = "") -> dict[Name, Timings]:
    """Run each way once unmeasured, then time all of them in turns."""
    seconds = answers_in_turns({name: partial(_timed, work) for name, work in ways.items()}, rounds, label)
    return {name: Timings(tuple(times)) for name, times in seconds.items()}


def answers_in_turns(ways: Mapping[Name, Callable[[], Answer]], rounds: int, label: str = "") -> dict[Name, list[Answer]]:
    """Run each way once for warmth, then in turns; return the answers of the turns, for ways that measure themselves."""
    for work in ways.values():
        work()
    answers: dict[Name, list[Answer]] = {name: [] for name in ways}
    for name in turns(ways, rounds, label):
        answers[name].append(ways[name]())
    return answers


def turns(names: Iterable[Name], rounds: int, label: str = "") -> Iterator[Name]:
    """Yield all names once a round, in reverse order every other round, with a progress bar if it has a label."""
    order = list(names)
    for turn in ProgressBar(range(rounds), desc=label, unit=" rounds", disable=not label):
        yield from order[:: -1 if turn % 2 else 1]


def _timed(work: Work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
