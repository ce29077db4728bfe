"""Choose the best variant of a tower for an objective."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from clip_export.builds.speed import Speed
from clip_export.builds.verdicts import Judged
from clip_export.variants import named

OBJECTIVES: dict[str, Callable[[Judged, Speed], float]] = {
    "latency": lambda _, speed: min(speed.latency_ms.items())[1],
    "throughput": lambda _, speed: -speed.per_second,
    "size": lambda row, _: row.size_bytes,
}
"""Objective of ``--for`` -> cost; lower is better."""


def best(rows: Sequence[Judged], speeds: Mapping[str, Speed | str], objective: str) -> Judged | None:
    """Return the best of one tower's variants that Triton can serve and that passed the gate; None if there is none."""
    measured = ((row, speeds[row.variant]) for row in rows if named(row.variant).backend and not row.failures)
    scored = [(OBJECTIVES[objective](row, speed), row) for row, speed in measured if isinstance(speed, Speed)]
    return min(scored, key=lambda pair: pair[0])[1] if scored else None
