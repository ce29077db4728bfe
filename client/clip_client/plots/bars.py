"""Bars of the probabilities that texts have for a picture."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from clip_client.errors import InvalidInput
from clip_client.plots.figures import BEST, OTHERS, Plot, draw, figure, write
from clip_client.plots.inputs import Floats, at_least_one, numbers, same_length, strings
from clip_client.plots.labels import shown, style
from clip_client.plots.pictures import kept, picture

_LABEL = 38  # columns of a label
_ACCEPTED = "a Clip, a Comparison, a Classification or the numbers of one image [M]"


def probabilities(image: Any, texts: Sequence[str], source: Any, *, top: int = 10, title: str = "") -> Plot:
    """Draw a picture, and beside it a bar of each text's probability, the best on top.

    The axis always goes from 0 to 1. With softmax the bars of all texts sum to 1, with sigmoid each stands for itself; the
    axis says which.

    Args:
        image: in any form that :meth:`clip_client.Clip.embed_image` takes. With ready probabilities a bad one is named
            in its place.
        texts: strings; the ``labels`` of a Classification will do.
        source: a :class:`~clip_client.Clip` that is asked now, or what it answered for this image: a
            :class:`~clip_client.Comparison`, a Classification, or an array of probabilities [M].
        top: most bars; the axis says how many texts were left out.

    Raises:
        InvalidInput: an argument of another type or length; with a Clip, also an image or text that can't be embedded.
        Unavailable, Timeout: the Clip's server is down or too slow.
    """
    labels, top = strings("texts", texts), at_least_one("top", top)
    if hasattr(source, "compare"):
        image = kept(image)
    values, note = _values(image, labels, source)
    same_length("the source", len(values), "texts", len(labels))
    best = np.argsort(-np.nan_to_num(values, nan=-1), kind="stable")[:top]
    plot = figure(8.5, max(2.6, 0.38 * len(best) + 1.1), title)
    left, right = plot.subplots(1, 2, width_ratios=(1, 1.7))
    draw(left, picture(image))
    _draw_bars(right, [labels[n] for n in best], values[best])
    left_out = f", best {len(best)} of {len(labels)}" if len(best) < len(labels) else ""
    right.set_xlabel(f"probability ({note}{left_out})", fontsize=9)
    return plot


def _values(image: Any, labels: list[str], source: Any) -> tuple[Floats, str]:
    """Return the probabilities [M], and what they are."""
    if hasattr(source, "compare"):
        if inspect.iscoroutinefunction(source.compare):
            raise InvalidInput("the source is an asynchronous client: pass what its compare returned, after await")
        values = _row(source.compare(image, labels).probabilities)
        softmax = source.spec.activation == "softmax"
        return values, "softmax: all texts sum to 1" if softmax else "sigmoid: each text for itself"
    values = _row(getattr(source, "probabilities", source))
    if np.any((values < 0) | (values > 1)):
        raise InvalidInput("the source has numbers below 0 or above 1: expected probabilities, not cosines or logits")
    return values, f"sum {np.nansum(values):.2f}"


def _row(values: Any) -> Floats:
    """Return the probabilities of one image, also of a list of one."""
    shape = np.shape(values)
    if len(shape) == 2 and shape[0] == 1:
        values = values[0]
    if len(shape) == 2 and shape[0] != 1:
        raise InvalidInput(f"the source has {shape[0]} images: expected one, e.g. its probabilities[0]")
    return numbers("the source", values, 1, _ACCEPTED)


def _draw_bars(axes: Axes, labels: Sequence[str], values: Floats) -> None:
    axes.set_xlim(0, 1.12)  # room for the number beside a bar of 1
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"])
    axes.spines[["top", "right"]].set_visible(False)
    if not labels:
        axes.set_yticks([])
        write(axes, "no texts")
        return
    bars = axes.barh(np.arange(len(labels)), np.nan_to_num(values), 0.66, color=[BEST] + [OTHERS] * (len(labels) - 1))
    axes.bar_label(bars, [_shown_number(value) for value in values], padding=3, fontsize=9)
    axes.set_yticks(np.arange(len(labels)), [shown(label, _LABEL, lines=2) for label in labels], **style())
    axes.set_ylim(max(len(labels), 3) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", alpha=0.25)
    axes.set_axisbelow(True)


def _shown_number(value: float) -> str:
    """Return two decimals, where neither 0 nor 1 is said of what is only near."""
    if np.isnan(value):
        return "unknown"
    if 0 < value < 0.005:
        return "<0.01"
    return ">0.99" if 0.995 <= value < 1 else f"{value:.2f}"
