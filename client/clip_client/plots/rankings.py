"""Sorted scores of a query, with the place where a cut falls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from clip_client.errors import InvalidInput
from clip_client.plots.figures import BEST, OTHERS, Plot, figure, message
from clip_client.plots.inputs import listed, numbers
from clip_client.rows_and_hits import Hit

_CUT = "#8a1c1c"


def scores(scores: Sequence[Any], *, cut: float | None = None, title: str = "") -> Plot:
    """Draw the scores of a query's answers from the best to the worst, to see where a threshold should fall.

    Args:
        scores: numbers [N] in any order, or hits of :meth:`clip_client.Search.query`; NaN and None are left out, and counted.
        cut: score of a threshold; the answers at or above it are filled, and counted.

    Raises:
        InvalidInput: an argument of another type or shape.
    """
    rows = listed("scores", scores, "scores or hits")
    values = numbers("scores", [row.score if isinstance(row, Hit) else row for row in rows], 1, "scores [N] or hits")
    if cut is not None and (isinstance(cut, bool) or not isinstance(cut, int | float | np.number) or not np.isfinite(cut)):
        raise InvalidInput(f"cut is {cut!r}: expected a score, e.g. 0.25")
    known = np.sort(values[np.isfinite(values)])[::-1]
    if not known.size:
        return message(6, 1.4, "no scores", title)
    plot = figure(7, 3.2, title)
    axes = plot.subplots()
    places = np.arange(1, known.size + 1)
    axes.plot(places, known, color=BEST, linewidth=1.6, marker="o" if known.size <= 60 else "", markersize=3.5)
    left_out = f" ({values.size - known.size} without a score left out)" if known.size < values.size else ""
    axes.set(xlabel=f"place among {known.size:,}{left_out}", ylabel="score")
    axes.set_xlim(0.5, known.size + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if cut is not None:
        taken = int(np.sum(known >= cut))
        axes.axhline(float(cut), color=_CUT, linewidth=1, linestyle="--", label=f"cut at {cut:g}: {taken:,} of {known.size:,}")
        axes.fill_between(places[:taken], known[:taken], float(cut), color=OTHERS, alpha=0.6, linewidth=0)
        axes.set_title(f"{taken:,} of {known.size:,} at {cut:g} or above", loc="right", fontsize=9, color=_CUT)
    return plot
