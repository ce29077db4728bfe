"""The report as a picture: how long requests took, and where in the server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bottleneck import Bottleneck, Load

if TYPE_CHECKING:
    from report import Row


def plot(rows: Sequence[Row], load: Load, bottleneck: Bottleneck, path: Path) -> None:
    """Bars of the percentiles of each kind of request; queue and compute of each step."""
    import matplotlib

    matplotlib.use("agg")  # no screen is needed
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 4.5), layout="constrained")
    _latencies(left, rows)
    _steps(right, load)
    figure.suptitle(f"the bottleneck is {bottleneck.name}")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _latencies(axis: Any, rows: Sequence[Row]) -> None:
    for n, name in enumerate(("p50", "p95", "p99")):
        at = [row + (n - 1) * 0.25 for row in range(len(rows))]
        axis.barh(at, [getattr(row, f"{name}_ms") for row in rows], height=0.23, label=name)
    axis.set_yticks(range(len(rows)), [f"{row.name}\n{row.per_s:,.0f}/s" for row in rows])
    axis.set(title="latency", xlabel="ms")
    axis.invert_yaxis()
    axis.legend()


def _steps(axis: Any, load: Load) -> None:
    names = [f"{step.model}\n{step.busy:.0%} busy" for step in load.steps]
    queue, compute = [step.queue_ms for step in load.steps], [step.compute_ms for step in load.steps]
    axis.barh(names, queue, label="queue", color="tab:orange")
    axis.barh(names, compute, left=queue, label="compute", color="tab:blue")
    axis.set(title="a request in the server, step by step", xlabel="ms")
    axis.invert_yaxis()
    axis.legend()
