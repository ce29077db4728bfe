"""Report of a load: Markdown for people, JSON for machines, a plot."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from busiest import Bottleneck, Load
from lib.tables import Cell, Table
from outcomes import Errors, Row
from plot import plot
from recording import Target

_LATENCIES = ("request", "requests", "failed", "/s", "mean ms", "p50", "p95", "p99")


@dataclass(frozen=True)
class Report:
    """A load from end to end."""

    target: Target
    users: int
    duration_s: float
    rows: Sequence[Row]
    errors: Sequence[Errors]
    load: Load
    bottleneck: Bottleneck

    def write(self, folder: Path) -> None:
        """Write ``load.md``, ``load.json`` and ``load.png`` in a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        content = {"date": datetime.now(timezone.utc).isoformat(timespec="seconds"), **asdict(self)}
        (folder / "load.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        (folder / "load.md").write_text(f"{self.markdown()}\n\n![latency and steps](load.png)\n", encoding="utf-8")
        plot(folder / "load.png", self.rows, self.load, self.bottleneck)

    def markdown(self) -> str:
        """Return the report as people read it."""
        requests, failed = sum(row.requests for row in self.rows), sum(row.failed for row in self.rows)
        by_use = sorted(self.load.cores_used.items(), key=lambda used: -used[1])
        errors = [(kind.request, kind.kind, kind.count, kind.example.replace("|", "\\|")) for kind in self.errors]
        tables = {
            "requests": Table(_LATENCIES, [*map(_cells, self.rows)]),
            "errors": Table(["errors of", "kind", "count", "for example"], errors),
            "steps": Table(["step", "instances", "busy", "cores", "batch", "queue ms", "compute ms"], [*self._steps()]),
            "processors": Table(["process", "cores"], [(name, f"{used:.2f}") for name, used in by_use]),
        }
        parts = [
            f"# Load of {self.target.triton}",
            f"{self.users} users, {self.duration_s:.0f} s, {requests:,} requests, {failed:,} failed.",
            f"**The bottleneck is {self.bottleneck.name}**: {self.bottleneck.reason}.",
            tables["requests"].markdown(),
            *([tables["errors"].markdown()] if self.errors else []),
            "## Steps on the server",
            tables["steps"].markdown(),
            "## Processors of this machine",
            tables["processors"].markdown(),
            f"{self.load.full:.0%} of {self.load.cores} cores.",
        ]
        return "\n\n".join(parts)

    def _steps(self) -> Iterator[Sequence[Cell]]:
        for step in self.load.steps:
            used = self.load.cores_used.get(step.model)
            cores = None if used is None else f"{used:.2f}"
            times = f"{step.queue_ms:.1f}", f"{step.compute_ms:.1f}"
            yield step.model, step.instances, f"{step.busy:.0%}", cores, f"{step.batch:.1f}", *times


def _cells(row: Row) -> Sequence[Cell]:
    times = (f"{ms:,.1f}" if ms < 10 else f"{ms:,.0f}" for ms in (row.mean_ms, row.p50_ms, row.p95_ms, row.p99_ms))
    return f"{row.method} {row.name}", row.requests, row.failed, f"{row.per_s:,.1f}", *times
