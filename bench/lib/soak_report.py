"""Judgement of a soak, and its report: Markdown for people, JSON for machines, a plot."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from lib import mixed_requests
from lib.paced_load import Answer, by_kind, percentile_ms
from lib.plotting import save
from lib.results import described
from lib.server_state import State
from lib.slopes import Slope, slope
from lib.tables import Cell, Table, shown

P99, P99_GROWTH, THROUGHPUT_KEPT, CONFIDENCE = "p99, ms", 1.1, 0.9, 0.95
PANELS = (
    ("search memory, MB",), ("Triton memory, MB",), ("search descriptors", "Triton descriptors"),
    ("search threads", "Triton threads"), ("files",), (P99,),
)  # fmt: skip


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
        """Length of what a median is of: a minute of half an hour."""
        return self.seconds / 30

    @property
    def sample_s(self) -> float:
        """Pause between two looks at the servers."""
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
        per_s: pace of the load.
        rows: rows that should be there at the end, and that are there.
    """

    plan: Plan
    samples: Sequence[tuple[float, State]]
    answers: Sequence[Answer]
    knee: Mapping[int, float]
    clients: int
    before: Sequence[float]
    after: Sequence[float]
    per_s: float
    rows: tuple[int, int]

    def series(self) -> dict[str, list[float]]:
        """Return medians of the state, and p99, of each bin."""
        bins = [[state for at, state in self.samples if n == int(at / self.plan.bin_s)] for n in range(30)]
        names = self.samples[0][1]
        medians = {name: [float(np.median([each[name] for each in some])) if some else np.nan for some in bins] for name in names}
        latencies = [self.between(n * self.plan.bin_s, (n + 1) * self.plan.bin_s) for n in range(30)]
        return medians | {P99: [percentile_ms(some, 99) for some in latencies]}

    def times(self) -> list[float]:
        """Return the middles of the bins in minutes."""
        return [(n + 0.5) * self.plan.bin_s / 60 for n in range(30)]

    def between(self, start_s: float, end_s: float) -> list[Answer]:
        """Return the answers to requests that were due in a part of the load."""
        return [answer for answer in self.answers if start_s <= answer.due_s < end_s]

    def windows(self) -> tuple[list[Answer], list[Answer]]:
        """Return the answers of the first window after the warm-up and of the last one."""
        window, end = self.plan.window_s, self.plan.seconds
        return self.between(window, 2 * window), self.between(end - window, end)

    def slopes(self) -> dict[str, Slope]:
        """Return the slope of each series after the warm-up, in units a minute; all errors hold together."""
        series, times = self.series(), self.times()
        confidence = 1 - (1 - CONFIDENCE) / len(series)
        slopes = {}
        for name, values in series.items():
            kept = [(at, value) for at, value in zip(times, values, strict=True) if 60 * at > self.plan.window_s]
            kept = [(at, value) for at, value in kept if not np.isnan(value)]
            slopes[name] = slope(*zip(*kept, strict=True), confidence=confidence)
        return slopes

    def faults(self) -> list[str]:
        """Return what isn't steady, in words; nothing if all is."""
        return [*self._slope_faults(), *self._speed_faults(), *self._answer_faults()]

    def _slope_faults(self) -> Iterator[str]:
        for name, line in self.slopes().items():
            if not line.is_flat:
                yield f"{name}: {line.value:+.3g} a minute, beyond its error of {line.error:.2g}"

    def _speed_faults(self) -> Iterator[str]:
        first, last = (percentile_ms(some, 99) for some in self.windows())
        if not last <= P99_GROWTH * first:
            yield f"p99 went from {first:.1f} to {last:.1f} ms: {last / first:.2f} times, at most {P99_GROWTH} is steady"
        kept = self.kept()
        if kept < THROUGHPUT_KEPT:
            yield f"requests a second at full speed: {kept:.2f} of the start's, at least {THROUGHPUT_KEPT} is steady"

    def _answer_faults(self) -> Iterator[str]:
        failed = [answer for answer in self.answers if answer.problem]
        if failed:
            example = f"{mixed_requests.kind(failed[0].number)}: {failed[0].problem}"
            yield f"{len(failed)} of {len(self.answers)} requests failed, for example {example}"
        expected, there = self.rows
        if expected != there:
            yield f"{there:,} rows at the end, {expected:,} were expected"

    def kept(self) -> float:
        """Return the share of the throughput at full speed that is left at the end."""
        return float(np.median(self.after) / np.median(self.before))


def tables(soak: Soak) -> list[Table]:
    """Return slopes, states, latencies, throughput."""
    slopes = soak.slopes()
    per_hour = "noticed from, an hour"
    rows: list[Sequence[Cell]] = [
        [name, line.value, line.error, "yes" if line.is_flat else "no", 60 * line.error, line.effective]
        for name, line in slopes.items()
    ]
    return [
        Table(["slope after the warm-up", "a minute", "error", "0 within it", per_hour, "medians that count"], rows),
        _states(soak),
        _latencies(soak),
        Table(
            ["at full speed", "clients", "requests/s before", "after", "share"],
            [["medians of three rounds", soak.clients, np.median(soak.before), np.median(soak.after), soak.kept()]],
        ),
    ]


def _states(soak: Soak) -> Table:
    series, times = soak.series(), soak.times()
    chosen = np.linspace(0, len(times) - 1, 7).astype(int).tolist()
    rows = [[f"{times[n]:.1f} min", *(round(values[n], 1) for values in series.values())] for n in chosen]
    return Table(["medians at", *series], rows)


def _latencies(soak: Soak) -> Table:
    first, last = soak.windows()
    firsts, lasts = by_kind(first), by_kind(last)
    rows: list[Sequence[Cell]] = [["all", *_compared(first, last)]]
    rows += [[name, *_compared(some, lasts.get(name, []))] for name, some in firsts.items()]
    return Table(["latency, first and last window", "requests", "p50 first", "p50 last", "p99 first", "p99 last", "p99 ratio"], rows)


def _compared(first: Sequence[Answer], last: Sequence[Answer]) -> list[Cell]:
    middles, highs = ([percentile_ms(some, percent) for some in (first, last)] for percent in (50, 99))
    return [len(first) + len(last), *middles, *highs, highs[1] / highs[0]]


def notes(soak: Soak) -> list[str]:
    """Return conditions and method."""
    plan = soak.plan
    count = len(soak.slopes())
    return [
        f"Triton and the sidecar with all their processes, {soak.rows[0]:,} rows, for {plan.minutes:g} minutes at {soak.per_s:.1f} "
        f"requests a second: 70 % of what {soak.clients} clients got at full speed. In turns: {mixed_requests.described()}; each "
        "text is a new one. A deleted row comes back in the same request and rows are replaced, so there are never more.",
        f"Slopes are those of medians of {plan.bin_s:g} s after the first {plan.window_s / 60:g} minutes, by least squares. The error "
        f"is half of a confidence interval: all {count} hold together with {CONFIDENCE:.0%} (each with {1 - (1 - CONFIDENCE) / count:.2%}, "
        "after Bonferroni), and medians that follow from the one before count for less: n (1 - r) / (1 + r) instead of n (Santer et "
        "al. 2000), r being the correlation of neighbouring residuals without its bias (Shaman and Stine 1988). Memory is what "
        "the system can't take back: anonymous and shared pages, those of several processes divided among them (Pss_Anon and "
        "Pss_Shmem). Latency counts from the moment at which a request was due.",
    ]


def verdict(soak: Soak) -> str:
    """Return the judgement in words."""
    faults = soak.faults()
    return "**Steady.**" if not faults else "**Not steady:** " + "; ".join(faults) + "."


def write(soak: Soak, folder: Path, conditions: Mapping[str, Any]) -> None:
    """Write ``soak.md``, ``soak.json`` and ``soak.png``."""
    folder.mkdir(parents=True, exist_ok=True)
    plot(soak, folder / "soak.png")
    parts = ["# Soak", verdict(soak), *notes(soak), *(table.markdown() for table in tables(soak)), "![the series](soak.png)"]
    (folder / "soak.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    content = {
        **described(), "conditions": conditions, "steady": not soak.faults(), "faults": soak.faults(), "knee": soak.knee,
        "before": soak.before, "after": soak.after, "minutes": soak.times(), "series": soak.series(),
        "slopes": {name: asdict(line) for name, line in soak.slopes().items()}, "tables": [asdict(each) for each in tables(soak)],
    }  # fmt: skip
    (folder / "soak.json").write_text(json.dumps(content, indent=1, default=float) + "\n", encoding="utf-8")


def plot(soak: Soak, path: Path) -> Path:
    """Draw the series with their lines."""
    series, slopes = soak.series(), soak.slopes()
    draws = [lambda axes, names=names: _panel(axes, soak, {name: (series[name], slopes[name]) for name in names}) for names in PANELS]
    return save(path, draws, (14, 7.5), rows=2)


def _panel(axes: Axes, soak: Soak, lines: Mapping[str, tuple[Sequence[float], Slope]]) -> None:
    times, warm = np.array(soak.times()), soak.plan.window_s / 60
    axes.axvspan(0, warm, color="black", alpha=0.06)
    for name, (values, line) in lines.items():
        [drawn] = axes.plot(times, values, marker=".", linewidth=0.8)
        kept = times > warm
        middle = np.nanmean(np.array(values)[kept]) + line.value * (times[kept] - times[kept].mean())
        label = f"{name}: {shown(line.value)} ± {shown(line.error)} a minute"
        axes.plot(times[kept], middle, color=drawn.get_color(), linewidth=2.5, alpha=0.6, label=label)
    axes.set(xlabel="minutes", title=", ".join(lines))
    low, high = axes.get_ylim()
    axes.set_ylim(max(0.0, low - 0.3 * (high - low)), high + 0.5 * (high - low))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="upper left")
