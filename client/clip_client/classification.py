"""Outcome of a zero-shot classification."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from clip_client.comparison import Floats, probabilities
from clip_client.errors import InvalidInput
from clip_client.html_tables import Bar, table, text_lines
from clip_client.spec import ModelSpec

Ranked = list[tuple[str, float]]
"""Labels with their probabilities, the likeliest first."""

_SHOWN_ROWS, _SHOWN_LABELS = 20, 5


@dataclass(frozen=True, eq=False, repr=False)
class Classification:
    """Images by labels; N is missing from the shapes where one image was passed instead of a list.

    Attributes:
        labels: the L labels, in the order of the columns.
        probabilities: float32 [N, L]; with softmax each row sums to 1 over the labels, with sigmoid each label stands for
            itself. NaN where the image failed.
        cosines: float32 [N, L], of each image with each label's embedding; NaN where the image failed.
        errors: reason by position of each image that failed.
        sources: names of the images, where they have one.
    """

    labels: tuple[str, ...]
    probabilities: Floats
    cosines: Floats
    errors: Mapping[int, str] = field(default_factory=dict)
    sources: Sequence[str] = ()

    @property
    def best(self) -> Any:
        """Likeliest label of the image; for a list of images a list, with None where one failed."""
        ranked = self.top(1)
        if self.probabilities.ndim == 1:
            return ranked[0][0]
        return [labels[0][0] if labels else None for labels in ranked]

    def top(self, k: int) -> Any:
        """Return the ``k`` likeliest labels with their probabilities, :data:`Ranked`; for a list of images a list of those.

        An image that failed has none.

        Raises:
            InvalidInput: ``k`` isn't a number from 1 on.
        """
        if not isinstance(k, int) or isinstance(k, bool) or k < 1:
            raise InvalidInput(f"k is {k!r}: expected a whole number from 1 on")
        rows = [self._ranked(row)[:k] for row in np.atleast_2d(self.probabilities)]
        return rows[0] if self.probabilities.ndim == 1 else rows

    def __len__(self) -> int:
        return len(np.atleast_2d(self.probabilities))

    def __repr__(self) -> str:
        size = f"{len(self)} x {len(self.labels)} labels" if self.probabilities.ndim > 1 else f"{len(self.labels)} labels"
        return text_lines(f"Classification({size}{f', {len(self.errors)} failed' if self.errors else ''})", self._rows())

    def _repr_html_(self) -> str:
        """Return a table for notebooks: a row per image, with bars for the likeliest labels."""
        rows = self._rows()
        cells: list[list[Any]] = [[name, *(Bar(*label) for label in ranked), reason] for name, ranked, reason in rows]
        return table(cells, more=len(self) - len(rows))

    def _rows(self) -> list[tuple[str, Ranked, str]]:
        """Return the first images: name, likeliest labels, and reason of a failure."""
        names = [*self.sources, *[""] * len(self)]
        ranked = [self._ranked(row)[:_SHOWN_LABELS] for row in np.atleast_2d(self.probabilities)[:_SHOWN_ROWS]]
        return [(names[n] or f"image {n}", labels, self.errors.get(n, "")) for n, labels in enumerate(ranked)]

    def _ranked(self, row: Floats) -> Ranked:
        if np.isnan(row).any():
            return []
        return [(self.labels[n], float(row[n])) for n in np.argsort(-row, kind="stable")]


def classified(images: Floats, label_embeddings: Floats, labels: tuple[str, ...], spec: ModelSpec) -> Classification:
    """Classify images by their embeddings, float32 [N, D] or [D], with those of the labels, float32 [L, D]; NaN gives NaN."""
    cosines = np.atleast_2d(images) @ label_embeddings.T  # [N, L]
    shape = (*images.shape[:-1], len(labels))
    return Classification(labels, probabilities(cosines, spec).reshape(shape), cosines.reshape(shape))
