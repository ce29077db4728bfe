"""Plots, as PNG files."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes

from lib.tables import shown

matplotlib.use("agg")  # no screen is needed
import matplotlib.pyplot as plt

Draw = Callable[[Axes], None]


def bars(path: Path, labels: Sequence[str], series: Mapping[str, Sequence[float]], axis: str) -> Path:
    """Plot a group of bars for each label, the first on top, one bar for each series, with its figure; NaN is no bar."""

    def draw(axes: Axes) -> None:
        height = 0.8 / len(series)
        for n, (name, values) in enumerate(series.items()):
            drawn = axes.barh(np.arange(len(labels)) + n * height, values, height * 0.92, label=name)
            axes.bar_label(drawn, ["" if np.isnan(value) else shown(float(value)) for value in values], padding=3, fontsize=8)
        axes.set_yticks(np.arange(len(labels)) + 0.4 - height / 2, labels)
        axes.invert_yaxis()
        axes.set_xlabel(axis)
        axes.margins(x=0.12, y=0.02)

    return plot(path, draw, height=1 + 0.18 * len(labels) * (len(series) + 0.6), legend=len(series) > 1)


def lines(path: Path, xs: Sequence[float], series: Mapping[str, Sequence[float]], axes_names: tuple[str, str]) -> Path:
    """Plot a line for each series over the same positions; both axes are logarithmic, named (x, y)."""

    def draw(axes: Axes) -> None:
        for name, values in series.items():
            axes.plot(xs, values, marker="o", label=name)
            for x, value in zip(xs, values, strict=True):
                axes.annotate(shown(value), (x, value), xytext=(0, 7), textcoords="offset points", ha="center", fontsize=8)
        axes.set(xlabel=axes_names[0], ylabel=axes_names[1], xscale="log", yscale="log")
        axes.set_xticks(xs, [shown(x) for x in xs])
        axes.minorticks_off()
        axes.margins(y=0.15)

    return plot(path, draw, height=4.2, legend=len(series) > 1)


def plot(path: Path, draw: Draw, height: float, legend: bool = False) -> Path:
    """Let ``draw`` fill one set of axes, and save the figure."""

    def with_grid(axes: Axes) -> None:
        draw(axes)
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
        if legend:
            axes.legend(fontsize=8)

    return save(path, [with_grid], (9, height))


def save(path: Path, draws: Sequence[Draw], size: tuple[float, float], title: str = "", rows: int = 1) -> Path:
    """Draw sets of axes side by side, in one row or several, in a figure of this size in inches, and save it."""
    figure, axes = plt.subplots(rows, len(draws) // rows, figsize=size, layout="constrained", squeeze=False)
    for draw, each in zip(draws, axes.flat, strict=True):
        draw(each)
    if title:
        figure.suptitle(title)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path
