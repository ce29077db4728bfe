"""Grids of pictures with labels, and of a search's hits."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from PIL import Image

from clip_client.errors import InvalidInput
from clip_client.images import ImageLike
from clip_client.plots.figures import BEST, Plot, draw, figure, message
from clip_client.plots.inputs import at_least_one, listed, same_length
from clip_client.plots.labels import shown, style
from clip_client.plots.pictures import Picture, attempt, picture
from clip_client.plots.pictures import pictures as read
from clip_client.rows_and_hits import Hit
from clip_client.type_names import a_type

_MOST = 100  # pictures in one figure
_CELL = 1.55  # inches
_LABEL = 20  # columns of a label
_LINES = 3  # of a label that has line breaks; each is wrapped once more


@runtime_checkable
class Thumbnails(Protocol):
    """Whatever has small pictures of hits, as :class:`clip_client.Search` does."""

    def thumbnail(self, hit: Hit) -> Any:
        """Return the picture of a hit as the bytes of a file; None if there is none."""


Pictures = Thumbnails | Sequence[ImageLike] | Callable[[Hit], ImageLike]


def hits(
    hits: Sequence[Hit],
    pictures: Pictures,
    *,
    label: str = "caption",
    query: ImageLike | None = None,
    columns: int = 5,
    title: str = "",
) -> Plot:
    """Draw the hits of a search in a grid, the best first, each with its score and a label below.

    Args:
        hits: what :meth:`clip_client.Search.query` returned; the first 100 are drawn.
        pictures: the :class:`~clip_client.Search` itself, for the sidecar's thumbnails; a list of images, one a hit; or a
            function that returns the image of a hit. A picture that can't be read has the reason in its place.
        label: column whose value is written below; the id where a hit lacks it.
        query: the image that was searched with; drawn first, in a frame.

    Raises:
        InvalidInput: an argument of another type or length.
    """
    rows = listed("hits", hits, "hits, as Search.query returns")
    for n, hit in enumerate(rows):
        if not isinstance(hit, Hit):
            raise InvalidInput(f"hits[{n}] is {a_type(hit)}: expected a Hit, as Search.query returns")
    drawn = _pictures_of(rows, pictures)
    labels = [_label(hit, label) for hit in rows[:_MOST]]
    notes = [f"{hit.score:.3f}" for hit in rows[:_MOST]]
    return _grid(drawn, labels, notes, _Layout(columns, title, query, len(rows), "hits"))


def grid(
    images: Sequence[ImageLike],
    labels: Sequence[Any] = (),
    *,
    query: ImageLike | None = None,
    columns: int = 5,
    title: str = "",
) -> Plot:
    """Draw pictures in a grid, each with a label below; for results that aren't :class:`~clip_client.search.Hit`.

    Args:
        images: in any form that :meth:`clip_client.Clip.embed_image` takes; the first 100 are drawn. One that can't be read has
            the reason in its place.
        labels: one an image, or none at all; numbers get three decimals, line breaks are kept.
        query: an image that is drawn first, in a frame.

    Raises:
        InvalidInput: an argument of another type or length.
    """
    rows, names = listed("images", images, "images"), listed("labels", labels, "labels")
    if names:
        same_length("labels", len(names), "images", len(rows))
    shown_labels = [f"{name:.3f}" if isinstance(name, float) else str(name) for name in names[:_MOST]]
    return _grid(read(rows[:_MOST]), shown_labels, [], _Layout(columns, title, query, len(rows), "pictures"))


class _Layout:
    """Arrangement of a grid; ``noun`` says of what, ``count`` how many there are with those that aren't drawn."""

    def __init__(self, columns: int, title: str, query: ImageLike | None, count: int, noun: str) -> None:
        self.columns = at_least_one("columns", columns)
        self.query, self.count, self.noun = query, count, noun
        self.title = f"{title} (the first {_MOST} of {count} {noun})".strip() if count > _MOST else title


def _grid(drawn: list[Picture], labels: list[str], notes: list[str], layout: _Layout) -> Plot:
    first = [] if layout.query is None else [picture(layout.query)]
    cells = first + drawn
    if not cells:
        return message(5, 1.4, f"no {layout.noun}", layout.title)
    columns = min(layout.columns, len(cells))
    rows = math.ceil(len(cells) / columns)
    height = rows * (_CELL + 0.55) + (0.4 if layout.title else 0)
    plot = figure(max(columns * _CELL, 3), height, layout.title)
    axes = plot.subplots(rows, columns, squeeze=False).ravel()
    for n, each in enumerate(axes):
        if n >= len(cells):
            each.set_axis_off()
            continue
        draw(each, cells[n])
        if n < len(first):
            _frame(each)
        else:
            lines = "\n".join(of[n - len(first)] for of in (notes, labels) if of).split("\n")[:_LINES]
            each.set_xlabel("\n".join(shown(line, _LABEL, lines=2) for line in lines), fontsize=8, **style())
    if not drawn:
        axes[0].set_xlabel(f"query: no {layout.noun}", fontsize=8)
    return plot


def _frame(axes: Any) -> None:
    axes.spines[:].set(visible=True, color=BEST, linewidth=2.5)
    axes.set_xlabel("query", fontsize=8, color=BEST)


def _pictures_of(rows: list[Hit], pictures: Pictures) -> list[Picture]:
    if isinstance(pictures, Thumbnails) and not isinstance(pictures, Image.Image):
        if inspect.iscoroutinefunction(pictures.thumbnail):
            raise InvalidInput("pictures is an asynchronous client: pass the images in a list, after await")
        return [_thumbnail(pictures, hit) for hit in rows[:_MOST]]
    if callable(pictures):
        return [attempt(lambda hit=hit: pictures(hit)) for hit in rows[:_MOST]]  # type: ignore[misc]
    images = listed("pictures", pictures, "images, or a Search, or a function of a hit")
    same_length("pictures", len(images), "hits", len(rows))
    return read(images[:_MOST])


def _thumbnail(pictures: Thumbnails, hit: Hit) -> Picture:
    if hit.thumbnail is None:
        return Picture(None, "no thumbnail")
    return attempt(lambda: pictures.thumbnail(hit))


def _label(hit: Hit, column: str) -> str:
    value = hit.metadata.get(column)
    return hit.id if value is None or value == "" else str(value)
