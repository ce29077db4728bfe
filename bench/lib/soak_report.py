"""Report of a soak: Markdown for people, JSON for machines, a plot."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from lib import mixed_requests
from lib.paced_load import Answer, by_kind, percentile_ms
from lib.plotting import Draw, save
from lib.results import described
from lib.slopes import Slope
from lib.soak_figures import CONFIDENCE, CPU_MS, P99, Soak
from lib.tables import Cell, Table, shown

PANELS = (
    ("search memory, MB",), ("Triton memory, MB",), ("search descriptors", "Triton descriptors"),
    ("search threads", "Triton threads"), ("files",), ("disk, MB",), (P99,), ("search" + CPU_MS, "Triton" + CPU_MS),
)  # fmt: skip
_COMPARED = ["latency in ms", "requests", "p50 first", "p50 last", "p99 first", "p99 last", "p99 ratio"]


def write(soak: Soak, folder: Path, conditions: Mapping[str, Any]) -> None:
    """Write ``soak.md``, ``soak.json`` and ``soak.png``."""
    folder.mkdir(parents=True, exist_ok=True)
    plot(soak, folder / "soak.png")
    shown_tables = [table.markdown() for table in tables(soak)]
    parts = ["# Soak", verdict(soak), *notes(soak), *shown_tables, "![the series](soak.png)"]
    (folder / "soak.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    series = {name: [None if np.isnan(value) else value for value in values] for name, values in soak.series().items()}
    content = {
        **described(),
        "conditions": conditions,
        "steady": not soak.faults(),
        "faults": soak.faults(),
        "knee": soak.knee,
        "before": soak.before,
        "after": soak.after,
        "minutes": soak.times(),
        "series": series,
        "slopes": {name: asdict(line) for name, line in soak.slopes().items()},
        "tables": [asdict(each) for each in tables(soak)],
    }
    (folder / "soak.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def verdict(soak: Soak) -> str:
    """Return the judgement in words."""
    faults = soak.faults()
    return f"**Not steady:** {'; '.join(faults)}." if faults else "**Steady.**"


def notes(soak: Soak) -> list[str]:
    """Return conditions and method."""
    plan, count = soak.plan, len(soak.slopes())
    return [
        f"Triton and the sidecar with all their processes and {soak.rows[0]:,} rows, {plan.minutes:g} minutes at "
        f"{soak.per_s:.1f} requests a second, which is {soak.share:.0%} of what {soak.clients} clients got at full speed. In "
        f"turns: {mixed_requests.described()}; each text is a new one. A deleted row comes back in the same request, rows are "
        "replaced: there are never more of them.",
        f"Slopes are those of medians of {plan.bin_s:g} s after the first {plan.window_s / 60:.3g} minutes, by least squares. "
        f"Their errors are halves of confidence intervals that hold together with {CONFIDENCE:.0%} (Bonferroni; each with "
        f"{1 - (1 - CONFIDENCE) / count:.2%}). Medians that follow from the one before count for less: n (1 - r) / (1 + r) for "
        "n, with the correlation r of neighbouring residuals ([method](operations/soak.md#slopes-and-their-errors)). Memory is "
        "what the system can't take back, Pss_Anon and Pss_Shmem. Latency counts from the moment at which a request was due; "
        f"the windows that are compared are the first {plan.window_s / 60:.3g} minutes after those and the last.",
    ]


def tables(soak: Soak) -> list[Table]:
    """Return slopes, states, latencies, throughput."""
    middles = [float(np.median(rounds)) for rounds in (soak.before, soak.after)]
    return [
        _slopes(soak),
        _states(soak),
        _latencies(soak),
        Table(["requests a second at full speed", "before", "after", "share"], [[_clients(soak), *middles, soak.kept()]]),
    ]


def _slopes(soak: Soak) -> Table:
    rows: list[Sequence[Cell]] = [
        [name, line.value, line.error, "yes" if line.is_flat else "no", 60 * line.error, line.effective]
        for name, line in soak.slopes().items()
    ]
    return Table(["slope", "a minute", "error", "0 within it", "error, an hour", "medians that count"], rows)


def _states(soak: Soak) -> Table:
    series, times = soak.series(), soak.times()
    chosen = np.linspace(0, len(times) - 1, 7).astype(int).tolist()
    rows: list[Sequence[Cell]] = [
        [name, *(None if np.isnan(values[n]) else round(values[n], 1) for n in chosen)] for name, values in series.items()
    ]
    return Table(["median at minute", *(f"{times[n]:.1f}" for n in chosen)], rows)


def _latencies(soak: Soak) -> Table:
    first, last = soak.windows()
    firsts, lasts = by_kind(first), by_kind(last)
    rows: list[Sequence[Cell]] = [["all", *_compared(first, last)]]
    rows += [[name, *_compared(some, lasts.get(name, []))] for name, some in firsts.items()]
    return Table(_COMPARED, rows)


def _compared(first: Sequence[Answer], last: Sequence[Answer]) -> list[Cell]:
    middles, highs = ([percentile_ms(some, percent) for some in (first, last)] for percent in (50, 99))
    return [len(first) + len(last), *(None if np.isnan(ms) else ms for ms in (*middles, *highs, highs[1] / highs[0]))]


def _clients(soak: Soak) -> str:
    return f"{soak.clients} client{'s' if soak.clients > 1 else ''}, medians of {len(soak.before)} rounds"


def plot(soak: Soak, path: Path) -> Path:
    """Draw the series with their lines; the warm-up is grey."""
    series, slopes = soak.series(), soak.slopes()

    def panel(names: Sequence[str]) -> Draw:
        return lambda axes: _panel(axes, soak, {name: (series[name], slopes[name]) for name in names})

    return save(path, [panel(names) for names in PANELS], (18, 7.5), rows=2)


def _panel(axes: Axes, soak: Soak, lines: Mapping[str, tuple[Sequence[float], Slope]]) -> None:
    times, warm = np.array(soak.times()), soak.plan.window_s / 60
    axes.axvspan(0, warm, color="black", alpha=0.06)
    kept = times > warm
    for name, (values, line) in lines.items():
        [drawn] = axes.plot(times, values, marker=".", linewidth=0.8)
        fitted = np.nanmean(np.array(values)[kept]) + line.value * (times[kept] - times[kept].mean())
        label = f"{name}: {shown(line.value)} ± {shown(line.error)} a minute"
        axes.plot(times[kept], fitted, color=drawn.get_color(), linewidth=2.5, alpha=0.6, label=label)
    low, high = axes.get_ylim()
    axes.set(xlabel="minutes", ylim=(max(0.0, low - 0.3 * (high - low)), high + 0.6 * (high - low)))  # room for the legend
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="upper left")
