"""Learning curve as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from clip_export.learning.training import Point

_LEAST_LOSS = 1e-3  # replayed texts begin where they have to stay: a loss of nothing would squeeze the others


def save(points: Sequence[Point], title: str, path: Path) -> None:
    """Draw the losses of the steps, and the gain on held-out queries, as PNG."""
    import matplotlib

    matplotlib.use("agg")  # no screen is needed
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
    taught = [point for point in points if point.losses]
    names = [name for name in (taught[0].losses if taught else ()) if any(point.losses[name] for point in taught)]
    for name in names:
        left.plot(
            [point.step for point in taught], [point.losses[name] for point in taught], marker="o", markersize=3, label=name
        )
    left.set(title="losses of the steps", xlabel="step", ylabel="loss", yscale="log")
    left.set_ylim(bottom=max(left.get_ylim()[0], _LEAST_LOSS))
    left.legend()
    steps, held_out = [point.step for point in points], [point.held_out for point in points]
    right.plot(steps, held_out, marker="o", markersize=3, color="#1f6fb4", label="learned")
    right.axhline(held_out[0], color="#888888", linestyle="--", label="parent")
    right.set(title="held-out queries (never learned from)", xlabel="step", ylabel="weighted 1 / log2(1 + rank) of the chosen")
    right.legend()
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.suptitle(title)
    figure.savefig(path, dpi=110)
    plt.close(figure)
