"""What a load showed: Markdown for people, JSON for machines, a picture."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from locust.stats import RequestStats, StatsEntry, StatsError

from bottleneck import Bottleneck, Load
from plot import plot
from recording import Target

PERCENTILES = (0.5, 0.95, 0.99)


@dataclass(frozen=True)
class Row:
    """One kind of request; times in milliseconds, as locust rounds them: to 1 below 100, to 10 below 1,000."""

    method: str
    name: str
    requests: int
    failed: int
    per_s: float
    mean_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float


@dataclass(frozen=True)
class Errors:
    """One kind of error, by its class, and the first message."""

    request: str
    kind: str
    count: int
    example: str


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
        plot(self.rows, self.load, self.bottleneck, folder / "load.png")

    def markdown(self) -> str:
        """The report as people read it."""
        requests, failed = sum(row.requests for row in self.rows), sum(row.failed for row in self.rows)
        parts = [
            f"# Load of {self.target.triton}",
            f"{self.users} users, {self.duration_s:.0f} s, {requests:,} requests, {failed:,} failed.",
            f"**The bottleneck is {self.bottleneck.name}**: {self.bottleneck.reason}.",
            _table("request", "requests", "failed", "/s", "mean ms", "p50", "p95", "p99")(map(_cells, self.rows)),
            *([_table("errors of", "kind", "count", "for example")(map(_error_cells, self.errors))] if self.errors else []),
            "## Steps on the server",
            _table("step", "instances", "busy", "cores", "batch", "queue ms", "compute ms")(self._steps()),
            "## Processors of this machine",
            _table("who", "cores")((name, f"{used:.2f}") for name, used in sorted(self.load.cores_used.items(), key=_by_use)),
            f"{self.load.full:.0%} of {self.load.cores} cores.",
        ]
        return "\n\n".join(parts)

    def _steps(self) -> Iterable[Sequence[str]]:
        for step in self.load.steps:
            used = self.load.cores_used.get(step.model)
            cores = "–" if used is None else f"{used:.2f}"
            times = f"{step.queue_ms:.1f}", f"{step.compute_ms:.1f}"
            yield step.model, str(step.instances), f"{step.busy:.0%}", cores, f"{step.batch:.1f}", *times


def rows(stats: RequestStats, duration_s: float) -> list[Row]:
    """A row for each kind of request."""
    return [_row(entry, duration_s) for _, entry in sorted(stats.entries.items()) if entry.num_requests]


def error_kinds(stats: RequestStats) -> list[Errors]:
    """Errors by request and class; messages with figures in them would be a kind each."""
    kinds: dict[tuple[str, str], list[StatsError]] = {}
    for error in stats.errors.values():
        kinds.setdefault((error.name, StatsError.parse_error(error.error).split("(")[0]), []).append(error)
    return [
        Errors(name, kind, sum(one.occurrences for one in found), StatsError.parse_error(found[0].error))
        for (name, kind), found in sorted(kinds.items())
    ]


def _row(entry: StatsEntry, duration_s: float) -> Row:
    percentiles = (float(entry.get_response_time_percentile(share)) for share in PERCENTILES)
    count = entry.num_requests
    return Row(entry.method, entry.name, count, entry.num_failures, count / duration_s, entry.avg_response_time, *percentiles)


def _cells(row: Row) -> Sequence[str]:
    times = (f"{ms:,.1f}" if ms < 10 else f"{ms:,.0f}" for ms in (row.mean_ms, row.p50_ms, row.p95_ms, row.p99_ms))
    return f"{row.method} {row.name}", f"{row.requests:,}", f"{row.failed:,}", f"{row.per_s:,.1f}", *times


def _error_cells(errors: Errors) -> Sequence[str]:
    return errors.request, errors.kind, f"{errors.count:,}", errors.example.replace("|", "\\|")


def _by_use(used: tuple[str, float]) -> float:
    return -used[1]


def _table(*columns: str) -> Callable[[Iterable[Sequence[str]]], str]:
    """Rows below these columns, as Markdown; all but the first are set to the right."""
    rule = ["---", *["---:"] * (len(columns) - 1)]
    return lambda rows: "\n".join(f"| {' | '.join(row)} |" for row in (columns, rule, *rows))
