"""Figures that notebooks show without pyplot, and the parts that all plots have."""

from __future__ import annotations

import io

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from clip_client.plots.labels import shown, style
from clip_client.plots.pictures import Picture

BEST, OTHERS, MISSING = "#1f6fb4", "#a9c4de", "#e4e4e4"
"""Colours: of what is best, of the others, and of what isn't there."""

_DPI = 110
_LARGEST_IN = 30.0  # inches of an edge: 3,300 pixels; matplotlib itself stops at 65,536


class Plot(Figure):
    """A figure that a notebook shows as a picture, also where pyplot was never imported."""

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png")
        return file.getvalue()


def figure(width: float, height: float, title: str = "") -> Plot:
    """Return an empty figure of a size in inches."""
    plot = Plot(figsize=(min(width, _LARGEST_IN), min(height, _LARGEST_IN)), dpi=_DPI, layout="constrained")
    plot.set_facecolor("white")
    if title:
        plot.suptitle(shown(title, 12 * max(int(width), 4), lines=3), **style())
    return plot


def message(width: float, height: float, text: str, title: str = "") -> Plot:
    """Return a figure that says why there is nothing to draw."""
    plot = figure(width, height, title)
    write(bare(plot.subplots()), text)
    return plot


def bare(axes: Axes) -> Axes:
    """Return axes without ticks and frame."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    return axes


def write(axes: Axes, text: str) -> None:
    """Write a line in the middle of axes."""
    axes.text(
        0.5, 0.5, shown(text, 60, lines=2), ha="center", va="center", color="#666666", transform=axes.transAxes, **style()
    )


def draw(axes: Axes, picture: Picture, *, width: int = 22) -> None:
    """Draw a picture; where there is none, a grey square with the reason, in lines of ``width`` characters."""
    bare(axes)
    if picture.pixels is not None:
        axes.imshow(picture.pixels)
        return
    axes.imshow(np.broadcast_to(np.uint8(int(MISSING[1:3], 16)), (64, 64, 3)))
    reason = shown(picture.reason, width, lines=5)
    axes.text(0.5, 0.5, reason, ha="center", va="center", fontsize=7, color="#8a1c1c", transform=axes.transAxes, **style())
