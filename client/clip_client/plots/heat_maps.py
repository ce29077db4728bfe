"""Heat maps of similarities, with pictures or labels on their axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.offsetbox import AnnotationBbox, OffsetImage

from clip_client.errors import InvalidInput
from clip_client.plots.figures import MISSING, Plot, figure, message
from clip_client.plots.inputs import Floats, listed, numbers, same_length
from clip_client.plots.labels import shown, style
from clip_client.plots.pictures import Picture, picture

_LABEL = 30  # columns of a label
_CELLS = 400  # most cells with a number each
_NAMES = 60  # most labels and thumbnails on an axis; of more, every so many
_THUMBNAIL = 38  # points, 1/72 inch


def similarity(
    matrix: Any,
    rows: Sequence[Any],
    columns: Sequence[Any],
    *,
    limits: tuple[float, float] | None = None,
    title: str = "",
) -> Plot:
    """Draw a matrix of similarities as colours, and as numbers where they are few.

    Args:
        matrix: [N, M]; what :meth:`clip_client.Clip.similarity` returns, or a :class:`~clip_client.Comparison`, of which the
            cosines are taken. NaN stands for an item that failed.
        rows: names of the N rows. A string is written; anything else is an image in any form that
            :meth:`clip_client.Clip.embed_image` takes, and drawn as a thumbnail (a file as a :class:`~pathlib.Path`). A
            picture that can't be read has the reason in its place.
        columns: names of the M columns, as those of the rows.
        limits: values of the darkest and the brightest colour; the matrix's own if None, which may lie close together.

    Raises:
        InvalidInput: an argument of another type or shape.
    """
    values = numbers("matrix", getattr(matrix, "cosines", matrix), 2, "numbers [N, M]")
    names = listed("rows", rows, "strings or images"), listed("columns", columns, "strings or images")
    if values.size or len(names[0]) * len(names[1]):
        same_length("rows", len(names[0]), "the matrix's first axis", values.shape[0])
        same_length("columns", len(names[1]), "its second axis", values.shape[1])
    if not values.size:
        return message(5, 1.4, f"nothing to compare: {len(names[0])} rows, {len(names[1])} columns", title)
    low, high = _limits(values, limits)
    plot = figure(2.6 + 0.62 * min(values.shape[1], 30), 1.9 + 0.6 * min(values.shape[0], 30), title)
    axes = plot.subplots()
    shades = axes.imshow(np.ma.masked_invalid(values), vmin=low, vmax=high, cmap="viridis", aspect="auto")
    axes.set_facecolor(MISSING)
    if values.size <= _CELLS:
        _write_numbers(axes, values, (low + high) / 2)
    _name(axes, names[0], vertical=True)
    _name(axes, names[1], vertical=False)
    plot.colorbar(shades, ax=axes, location="bottom", shrink=0.8, aspect=40, pad=0.02)
    return plot


def _limits(values: Floats, limits: Any) -> tuple[float, float]:
    if limits is None:
        known = values[np.isfinite(values)]
        return (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    try:
        low, high = (float(limit) for limit in limits)
    except (TypeError, ValueError) as problem:
        raise InvalidInput(f"limits is {limits!r}: expected two numbers, e.g. (-1, 1)") from problem
    if not low < high:
        raise InvalidInput(f"limits is {limits!r}: expected the lower number first")
    return low, high


def _write_numbers(axes: Axes, values: Floats, middle: float) -> None:
    for (row, column), value in np.ndenumerate(values):
        text, colour = (
            (f"{round(value, 2) + 0.0:.2f}", "black" if value > middle else "white") if np.isfinite(value) else ("–", "black")
        )
        axes.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)


def _name(axes: Axes, names: list[Any], *, vertical: bool) -> None:
    """Write and draw the names of an axis: of the rows at the left, of the columns at the top."""
    axis = axes.yaxis if vertical else axes.xaxis
    axes.xaxis.tick_top()
    places = range(0, len(names), -(-len(names) // _NAMES))
    images = {n: picture(names[n]) for n in places if not isinstance(names[n], str)}
    labels = [_label(names[n], images.get(n)) for n in places]
    angle = 90 if images else 45  # beside thumbnails there is no room for a slant
    turned: dict[str, Any] = {} if vertical else {"rotation": angle, "ha": "left", "rotation_mode": "anchor", "va": "center"}
    axis.set_ticks(list(places), labels, **turned, **style())
    axis.set_tick_params(length=0, labelsize=7 if images else 8)
    size = min(_THUMBNAIL, 40 * min(len(names), 30) / len(places))
    for n, image in images.items():
        if image.pixels is not None:
            _draw_thumbnail(axes, image.pixels, n, vertical=vertical, size=size)


def _label(name: Any, image: Picture | None) -> str:
    """Return what is written: a string, the reason of a bad picture, or blanks that keep room for a good one."""
    if isinstance(name, str):
        return shown(name, _LABEL)
    if image is None or image.pixels is not None:
        return " " * 12
    return shown(image.reason, 24, lines=2)


def _draw_thumbnail(axes: Axes, pixels: npt.NDArray[np.uint8], place: int, *, vertical: bool, size: float) -> None:
    zoom = size / max(pixels.shape[:2])
    where, align = ((0, place), (1.08, 0.5)) if vertical else ((place, 1), (0.5, -0.08))
    coordinates = axes.get_yaxis_transform() if vertical else axes.get_xaxis_transform()
    box = OffsetImage(pixels, zoom=zoom, resample=True)
    axes.add_artist(
        AnnotationBbox(box, where, xycoords=coordinates, box_alignment=align, frameon=False, pad=0, annotation_clip=False)
    )
