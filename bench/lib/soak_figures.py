"""Measurements of a soak, and their judgement."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lib import mixed_requests
from lib.paced_load import Answer, percentile_ms
from lib.server_state import CPU, State
from lib.slopes import Slope, slope

P99, CPU_MS = "p99, ms", " CPU, ms a request"
BINS = 30
P99_GROWTH, THROUGHPUT_KEPT, SENT, CONFIDENCE = 1.1, 0.9, 0.99, 0.95


@dataclass(frozen=True)
class Plan:
    """Times of a soak, all in proportion to its length."""

    minutes: float

    @property
    def seconds(self) -> float:
        """Length of the load."""
        return self.minutes * 60

    @property
    def bin_s(self) -> float:
        """Length of the parts that a median is of: a minute of half an hour."""
        return self.seconds / BINS

    @property
    def sample_s(self) -> float:
        """Time between two looks at the servers."""
        return self.bin_s / 12

    @property
    def window_s(self) -> float:
        """Length of the warm-up, and of the windows that are compared: 5 minutes of half an hour."""
        return self.seconds / 6


@dataclass(frozen=True)
class Soak:
    """Measurements of a soak.

    Attributes:
        samples: the state by seconds since the start.
        knee: throughput in requests a second by clients, at full speed, before.
        clients: clients at the knee.
        before, after: requests a second at full speed with so many clients, of each round.
        share: of the throughput at the knee, for the load.
        per_s: pace of the load.
        rows: number of rows that should be there at the end, and of those that are.
    """

    plan: Plan
    samples: Sequence[tuple[float, State]]
    answers: Sequence[Answer]
    knee: Mapping[int, float]
    clients: int
    before: Sequence[float]
    after: Sequence[float]
    share: float
    per_s: float
    rows: tuple[int, int]

    def series(self) -> dict[str, list[float]]:
        """Return medians of the state, processor time a request, and p99, of each part; NaN where nothing was seen."""
        at, states = np.array([at for at, _ in self.samples]), [state for _, state in self.samples]
        edges = np.arange(BINS + 1) * self.plan.bin_s
        parts, answers = np.digitize(at, edges) - 1, [self.between(*ends) for ends in itertools.pairwise(edges.tolist())]
        ends = np.array([answer.due_s + answer.latency_s for answer in self.answers])
        counts = np.maximum(np.histogram(ends, edges)[0], 1)
        series: dict[str, list[float]] = {}
        for name in states[0]:
            values = np.array([state[name] for state in states])
            if name.endswith(CPU):
                spent_ms = 1000 * np.diff(np.interp(edges, at, values)) / counts
                series[name.removesuffix(CPU) + CPU_MS] = spent_ms.tolist()
            else:
                series[name] = [float(np.median(some)) if len(some) else np.nan for some in _parted(values, parts)]
        return series | {P99: [percentile_ms(some, 99) for some in answers]}

    def times(self) -> list[float]:
        """Return the middles of the parts in minutes."""
        return [(n + 0.5) * self.plan.bin_s / 60 for n in range(BINS)]

    def between(self, start_s: float, end_s: float) -> list[Answer]:
        """Return the answers to requests that were due in a part of the load."""
        return [answer for answer in self.answers if start_s <= answer.due_s < end_s]

    def windows(self) -> tuple[list[Answer], list[Answer]]:
        """Return the answers of the first window after the warm-up and of the last one."""
        window, end = self.plan.window_s, self.plan.seconds
        return self.between(window, 2 * window), self.between(end - window, end)

    def slopes(self) -> dict[str, Slope]:
        """Return the slope of each series after the warm-up, in units a minute; all errors hold together."""
        series, times = self.series(), np.array(self.times())
        confidence = 1 - (1 - CONFIDENCE) / len(series)  # Bonferroni's bound
        slopes = {}
        for name, values in series.items():
            kept = (60 * times > self.plan.window_s) & ~np.isnan(values)
            slopes[name] = slope(times[kept].tolist(), np.array(values)[kept].tolist(), confidence)
        return slopes

    def kept(self) -> float:
        """Return the share of the throughput at full speed that is left at the end."""
        return float(np.median(self.after) / np.median(self.before))

    def faults(self) -> list[str]:
        """Return what isn't steady, in words; nothing if all is."""
        return [*self._slope_faults(), *self._speed_faults(), *self._answer_faults()]

    def _slope_faults(self) -> Iterator[str]:
        for name, line in self.slopes().items():
            if not line.is_flat:
                yield f"{name}: {line.value:+.3g} a minute, beyond its error of {line.error:.2g}"

    def _speed_faults(self) -> Iterator[str]:
        first, last = (percentile_ms(some, 99) for some in self.windows())
        if last > P99_GROWTH * first:
            yield f"p99 went from {first:.1f} to {last:.1f} ms: {last / first:.2f} times, at most {P99_GROWTH} is steady"
        if (kept := self.kept()) < THROUGHPUT_KEPT:
            yield f"requests a second at full speed: {kept:.2f} of the start's, at least {THROUGHPUT_KEPT} is steady"

    def _answer_faults(self) -> Iterator[str]:
        due = round(self.per_s * self.plan.seconds)
        if len(self.answers) < SENT * due:
            yield f"{len(self.answers):,} requests were sent, {due:,} were due: the servers fell behind, or had no cores left"
        if failed := [answer for answer in self.answers if answer.problem]:
            example = f"{mixed_requests.kind(failed[0].number)}: {failed[0].problem}"
            yield f"{len(failed):,} of {len(self.answers):,} requests failed, for example {example}"
        expected, there = self.rows
        if expected != there:
            yield f"{there:,} rows at the end, {expected:,} were expected"


def _parted(values: np.ndarray, parts: np.ndarray) -> list[np.ndarray]:
    return [values[parts == n] for n in range(BINS)]
