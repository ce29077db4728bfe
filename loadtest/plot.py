"""Plot of a report: latency of each kind of request, and its time in each step of the server."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes

from busiest import Bottleneck, Load
from lib.plotting import save
from outcomes import Row


def plot(path: Path, rows: Sequence[Row], load: Load, bottleneck: Bottleneck) -> None:
    """Draw latencies on the left, steps on the right."""
    draws = [lambda axes: _latencies(axes, rows), lambda axes: _steps(axes, load)]
    save(path, draws, (13, 4.5), title=f"the bottleneck is {bottleneck.name}")


def _latencies(axes: Axes, rows: Sequence[Row]) -> None:
    for n, name in enumerate(("p50", "p95", "p99")):
        at = [row + (n - 1) * 0.25 for row in range(len(rows))]
        axes.barh(at, [getattr(row, f"{name}_ms") for row in rows], height=0.23, label=name)
    axes.set_yticks(range(len(rows)), [f"{row.name}\n{row.per_s:,.0f}/s" for row in rows])
    axes.set(title="latency", xlabel="ms")
    axes.invert_yaxis()
    axes.legend()


def _steps(axes: Axes, load: Load) -> None:
    names = [f"{step.model}\n{step.busy:.0%} busy" for step in load.steps]
    queue, compute = [step.queue_ms for step in load.steps], [step.compute_ms for step in load.steps]
    axes.barh(names, queue, label="queue", color="tab:orange")
    axes.barh(names, compute, left=queue, label="compute", color="tab:blue")
    axes.set(title="a request in the server, step by step", xlabel="ms")
    axes.invert_yaxis()
    axes.legend()
