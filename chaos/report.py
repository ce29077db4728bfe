"""Report of a rehearsal: recovery by fault as JSON and Markdown, and the throughput over time as a plot."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from chaos.load import Outcome
from chaos.rehearsal import Rehearsed
from lib.plotting import save
from lib.results import described
from lib.tables import Table

COLUMNS = ("fault", "times", "recovery, median", "most", "came back last", "failed requests", "slowest error", "wrong")
_BIN_S = 1.0
_COLOURS = {"kill": "tab:red", "SIGSTOP": "tab:orange", "full": "tab:purple", "object": "tab:brown", "Triton": "tab:pink"}


@dataclass(frozen=True)
class Report:
    """All that a rehearsal found.

    Attributes:
        left_out: reasons by kinds of faults that this machine can't make.
        totals: acknowledged changes, requests, and the like.
        wrong: all that went wrong; empty for a good one.
    """

    seed: int
    seconds: float
    rehearsed: Sequence[Rehearsed]
    outcomes: Sequence[Outcome]
    left_out: Mapping[str, str]
    totals: Mapping[str, int]
    wrong: Sequence[str]

    def table(self) -> Table:
        """Return recovery by kind of fault."""
        names = sorted({one.fault for one in self.rehearsed})
        return Table(COLUMNS, [_row(name, [one for one in self.rehearsed if one.fault == name]) for name in names])

    def markdown(self) -> str:
        """Return the report as a page."""
        head = f"Seed {self.seed}, {self.seconds / 60:.1f} minutes: " + ", ".join(
            f"{n:,} {name}" for name, n in self.totals.items()
        )
        parts = [f"# Rehearsal of faults\n\n{head}.", self.table().markdown()]
        if self.left_out:
            parts.append("Left out: " + "; ".join(f"{name} (needs {reason})" for name, reason in self.left_out.items()) + ".")
        verdict = "\n".join(f"- {one}" for one in self.wrong) if self.wrong else "Nothing went wrong."
        return "\n\n".join([*parts, "![Throughput over time](chaos.png)", verdict]) + "\n"

    def write(self, folder: Path) -> None:
        """Write chaos.md, chaos.json and chaos.png."""
        (folder / "chaos.md").write_text(self.markdown(), encoding="utf-8")
        table = self.table()
        content: dict[str, Any] = {
            **described(),
            "seed": self.seed,
            "seconds": round(self.seconds, 1),
            "totals": {**self.totals},
        }
        content |= {"columns": table.columns, "rows": table.rows, "left_out": {**self.left_out}, "wrong": [*self.wrong]}
        content["faults"] = [asdict(one) for one in self.rehearsed]
        (folder / "chaos.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        save(folder / "chaos.png", [self._draw], (13, 4.5), title=f"{len(self.rehearsed)} faults, seed {self.seed}")

    def _draw(self, axes: Axes) -> None:
        """Draw answers a second, with a stripe from each fault to its recovery."""
        start = min(one.ended for one in self.outcomes)
        bins = np.arange(0, max(one.ended for one in self.outcomes) - start + 2 * _BIN_S, _BIN_S)
        named = set[str]()
        for one in self.rehearsed:
            group = one.fault.partition(" ")[0].partition("'")[0].partition(":")[0]
            colour = _COLOURS.get(group, "tab:gray")
            label = None if colour in named else group
            named.add(colour)
            axes.axvspan(one.began - start, one.ended + one.recovery_s - start, color=colour, alpha=0.25, lw=0, label=label)
        for label, is_right in (("right answers", True), ("errors", False)):
            times = [one.ended - start for one in self.outcomes if one.is_right == is_right]
            axes.step(bins[:-1], np.histogram(times, bins)[0] / _BIN_S, where="post", lw=0.8, label=label)
        axes.set(xlabel="seconds", ylabel="requests a second")
        axes.legend(fontsize=7, ncols=4)


def _row(name: str, faults: Sequence[Rehearsed]) -> list[str | int]:
    times = [one.recovery_s for one in faults]
    last = Counter(one.slowest for one in faults if one.slowest).most_common(1)
    failed = sum(sum(one.errors.values()) for one in faults)
    slowest, wrong = max(one.slowest_error_s for one in faults), sum(len(one.wrong) for one in faults)
    seconds = f"{statistics.median(times):.1f} s", f"{max(times):.1f} s"
    return [
        name,
        len(faults),
        *seconds,
        last[0][0] if last else "none failed",
        failed,
        f"{slowest:.1f} s" if failed else "",
        wrong,
    ]
