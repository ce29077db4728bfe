"""Plots of the page, as PNG files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes

import results
from results import shown

matplotlib.use("agg")  # no screen is needed
import matplotlib.pyplot as plt


def bars(name: str, labels: Sequence[str], series: Mapping[str, Sequence[float]], axis: str) -> Path:
    """Draw a group of bars for each label, the first on top, one bar for each series, with its figure; NaN is no bar."""

    def draw(axes: Axes) -> None:
        height = 0.8 / len(series)
        for n, (what, values) in enumerate(series.items()):
            drawn = axes.barh(np.arange(len(labels)) + n * height, values, height * 0.92, label=what)
            axes.bar_label(drawn, ["" if np.isnan(value) else shown(float(value)) for value in values], padding=3, fontsize=8)
        axes.set_yticks(np.arange(len(labels)) + 0.4 - height / 2, labels)
        axes.invert_yaxis()
        axes.set_xlabel(axis)
        axes.margins(x=0.12, y=0.02)

    return plot(name, draw, height=1 + 0.18 * len(labels) * (len(series) + 0.6), legend=len(series) > 1)


def lines(name: str, xs: Sequence[float], series: Mapping[str, Sequence[float]], axes_names: tuple[str, str]) -> Path:
    """Draw a line for each series over the same positions; both axes are logarithmic, named (x, y)."""

    def draw(axes: Axes) -> None:
        for what, values in series.items():
            axes.plot(xs, values, marker="o", label=what)
            for x, value in zip(xs, values, strict=True):
                axes.annotate(shown(value), (x, value), xytext=(0, 7), textcoords="offset points", ha="center", fontsize=8)
        axes.set(xlabel=axes_names[0], ylabel=axes_names[1], xscale="log", yscale="log")
        axes.set_xticks(xs, [shown(x) for x in xs])
        axes.minorticks_off()
        axes.margins(y=0.15)

    return plot(name, draw, height=4.2, legend=len(series) > 1)


def plot(name: str, draw: Callable[[Axes], None], height: float, legend: bool = False) -> Path:
    """Let ``draw`` fill one set of axes, and save it where the page looks for it."""
    figure, axes = plt.subplots(figsize=(9, height), layout="constrained")
    draw(axes)
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    if legend:
        axes.legend(fontsize=8)
    results.FOLDER.mkdir(parents=True, exist_ok=True)
    path = results.FOLDER / f"{name}.png"
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path
