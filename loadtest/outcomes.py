"""Requests and errors of a load by kind, from locust's statistics."""

from dataclasses import dataclass

from locust.stats import RequestStats, StatsEntry, StatsError

PERCENTILES = (0.5, 0.95, 0.99)


@dataclass(frozen=True)
class Row:
    """Requests of one kind; times in milliseconds, as locust rounds them: to 1 below 100, to 10 below 1,000."""

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
    """Errors of one class, and the first message."""

    request: str
    kind: str
    count: int
    example: str


def rows(stats: RequestStats, duration_s: float) -> list[Row]:
    """Return a row for each kind of request."""
    return [_row(entry, duration_s) for _, entry in sorted(stats.entries.items()) if entry.num_requests]


def error_kinds(stats: RequestStats) -> list[Errors]:
    """Return errors by request and class; messages differ by the figures in them."""
    kinds: dict[tuple[str, str], list[StatsError]] = {}
    for error in stats.errors.values():
        kinds.setdefault((error.name, StatsError.parse_error(error.error).split("(")[0]), []).append(error)
    return [
        Errors(name, kind, sum(error.occurrences for error in errors), StatsError.parse_error(errors[0].error))
        for (name, kind), errors in sorted(kinds.items())
    ]


def _row(entry: StatsEntry, duration_s: float) -> Row:
    percentiles = (float(entry.get_response_time_percentile(share)) for share in PERCENTILES)
    count = entry.num_requests
    return Row(entry.method, entry.name, count, entry.num_failures, count / duration_s, entry.avg_response_time, *percentiles)
