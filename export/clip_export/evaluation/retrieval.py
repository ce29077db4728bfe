"""Retrieval scores of embeddings: recalls between texts and pictures, zero-shot accuracy, agreement on neighbours."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from clip_export.evaluation.items import Evaluation

Embeddings = npt.NDArray[np.float32]

KS = (1, 5, 10)
TEXT_TO_IMAGE, IMAGE_TO_TEXT, ZERO_SHOT = "text_to_image", "image_to_text", "zero_shot_accuracy"
"""Names of scores; recalls have ``_r@K`` behind them."""

_NEIGHBOURS = 10
_TIE = 1e-5  # similarities this close are a tie, of which half count as nearer: rounding must not choose
_ROWS = 1024  # of similarities that are held at once


def scores(image: Embeddings, text: Embeddings, evaluation: Evaluation) -> dict[str, float]:
    """Return recalls where there are captions, zero-shot accuracy where there are classes; 0 to 1, by name.

    Args:
        image: of the evaluation's pictures, float32 [N, D], unit length.
        text: of its texts, float32 [M, D], unit length.
        evaluation: owners and labels of the texts.
    """
    return {name: float(answered.mean()) for name, answered in hits(image, text, evaluation).items()}


def hits(image: Embeddings, text: Embeddings, evaluation: Evaluation) -> dict[str, npt.NDArray[np.bool_]]:
    """Return which queries are answered right, by the name of the score: bool [Q], of texts or of pictures."""
    answered: dict[str, npt.NDArray[np.bool_]] = {}
    if len(evaluation.owners):
        to_image = ranks(text, image, evaluation.owners[:, None] == np.arange(len(image)))
        to_text = ranks(image, text, np.arange(len(image))[:, None] == evaluation.owners)
        answered |= {f"{TEXT_TO_IMAGE}_r@{k}": to_image < k for k in KS}
        answered |= {f"{IMAGE_TO_TEXT}_r@{k}": to_text < k for k in KS}
    if len(evaluation.labels):
        right = evaluation.labels[:, None] == np.arange(len(text))
        answered[ZERO_SHOT] = ranks(image, text, right) < 1
    return answered


def queries(name: str, evaluation: Evaluation) -> int:
    """Return the number of queries behind a score of :func:`scores`."""
    return len(evaluation.tokens) if name.startswith(TEXT_TO_IMAGE) else len(evaluation.pixels)


def agreement(image: Embeddings, reference: Embeddings) -> float:
    """Return the share of each picture's ten nearest neighbours that the reference keeps; both float32 [N, D]."""
    ours, theirs = _neighbours(image), _neighbours(reference)
    shared = [np.isin(mine, other).mean() for mine, other in zip(ours, theirs, strict=True)]
    return float(np.mean(shared))


def ranks(queries: Embeddings, items: Embeddings, right: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Return, for each query, the number of wrong items before the best right one; ties count half.

    Args:
        queries: float32 [Q, D], unit length.
        items: float32 [N, D], unit length.
        right: bool [Q, N], at least one in each row.
    """
    counts = []
    for start in range(0, len(queries), _ROWS):
        similarity = queries[start : start + _ROWS] @ items.T  # [rows, N]
        good = right[start : start + _ROWS]
        best = np.where(good, similarity, -np.inf).max(axis=1, keepdims=True)
        nearer = ((similarity > best + _TIE) & ~good).sum(axis=1)
        not_farther = (~(similarity < best - _TIE) & ~good).sum(axis=1)  # so that a NaN is never a hit
        counts.append((nearer + not_farther) / 2)
    return np.concatenate(counts)


def rank(similarity: npt.NDArray[np.float32], position: int) -> float:
    """Return the number of items [N] that are more similar than the one at a position; ties count half."""
    own = similarity[position]
    nearer, not_farther = (similarity > own + _TIE).sum(), (~(similarity < own - _TIE)).sum() - 1
    return float(nearer + not_farther) / 2


def _neighbours(embeddings: Embeddings) -> npt.NDArray[np.int64]:
    """Return the positions of each row's ten nearest neighbours: [N, 10], fewer in a smaller set."""
    count = min(_NEIGHBOURS, len(embeddings) - 1)
    nearest = []
    for start in range(0, len(embeddings), _ROWS):
        similarity = embeddings[start : start + _ROWS] @ embeddings.T
        similarity[np.arange(len(similarity)), np.arange(start, start + len(similarity))] = -np.inf
        nearest.append(np.argsort(-similarity, axis=1)[:, :count])
    return np.concatenate(nearest)
