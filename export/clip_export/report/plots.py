"""Plots of a report: speed against loss, and latency by batch size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from clip_client.spec import TOWERS, Tower
from clip_export.artifact_files import LATENCY_BY_BATCH, SPEED_AGAINST_LOSS
from clip_export.builds.speed import Speed
from clip_export.builds.verdicts import Judged
from clip_export.report.report import Report


def save(report: Report, folder: Path) -> list[Path]:
    """Draw both plots as PNG; return the files."""
    import matplotlib

    matplotlib.use("agg")  # no screen is needed
    paths = [folder / SPEED_AGAINST_LOSS, folder / LATENCY_BY_BATCH]
    _draw(report, "speed against loss (x: below the gate)", _speed_against_loss, paths[0])
    _draw(report, "latency by batch size", _latency_by_batch, paths[1])
    return paths


def _draw(report: Report, title: str, draw: Callable[[Report, Tower, Any], None], path: Path) -> None:
    """Draw a plot per tower, side by side."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(13, 5), layout="constrained")
    for axis, tower in zip(axes, TOWERS, strict=True):
        axis.set_title(f"{tower} tower")
        axis.grid(alpha=0.3)
        draw(report, tower, axis)
    figure.suptitle(f"{report.spec.checkpoint}: {title}")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _speed_against_loss(report: Report, tower: Tower, axis: Any) -> None:
    """Draw a point per variant: speed-up over torch in the largest batch, and its loss."""
    measured = _measured(report, tower)
    for row, speed in measured:
        times = report.times(row, max(speed.latency_ms)) or float("nan")
        loss = _loss(row)
        axis.scatter(times, loss, s=60, marker="x" if row.failures else "o")
        axis.annotate(row.variant, (times, loss), xytext=(4, 6), textcoords="offset points", fontsize=8, rotation=35)
    labelled = any(row.scores.lost for row, _ in measured)
    axis.set_xlabel("times as fast as torch-fp32, largest batch")
    axis.set_ylabel("points of retrieval lost, worst score" if labelled else "mean cosine lost (1 - cosine)")
    axis.margins(0.25)


def _latency_by_batch(report: Report, tower: Tower, axis: Any) -> None:
    """Draw a line per variant on logarithmic axes."""
    measured = _measured(report, tower)
    for row, speed in measured:
        axis.plot(list(speed.latency_ms), list(speed.latency_ms.values()), marker="o", label=row.variant)
    axis.set(xlabel="batch size", ylabel="median latency of a batch, ms", xscale="log", yscale="log")
    batches = sorted({batch for _, speed in measured for batch in speed.latency_ms})
    axis.set_xticks(batches, [str(batch) for batch in batches])
    axis.minorticks_off()
    axis.legend(fontsize=8)


def _measured(report: Report, tower: Tower) -> Sequence[tuple[Judged, Speed]]:
    rows = [row for row in report.rows if row.tower == tower and isinstance(row, Judged)]
    return [(row, speed) for row in rows if (speed := report.speed(row))]


def _loss(row: Judged) -> float:
    return max(row.scores.lost.values()) if row.scores.lost else 1 - row.scores.cosine_mean
