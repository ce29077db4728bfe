"""What embeddings are for: finding the picture of a text, the text of a picture, the class, the neighbours."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from clip_export.evaluation import Evaluation

Embeddings = npt.NDArray[np.float32]

KS = (1, 5, 10)
_NEIGHBOURS = 10
_TIE = 1e-5  # similarities this close are a tie, of which half count as nearer: rounding must not choose
_ROWS = 1024


def scores(image: Embeddings, text: Embeddings, evaluation: Evaluation) -> dict[str, float]:
    """Recalls where there are captions, zero-shot accuracy where there are classes; 0 to 1, by name.

    Args:
        image: of the evaluation's pictures, float32 [N, D], unit length.
        text: of its texts, float32 [M, D], unit length.
        evaluation: says which belong together.
    """
    found: dict[str, float] = {}
    if len(evaluation.owners):
        to_image = ranks(text, image, evaluation.owners[:, None] == np.arange(len(image)))
        to_text = ranks(image, text, np.arange(len(image))[:, None] == evaluation.owners)
        found |= {f"text_to_image_r@{k}": float((to_image < k).mean()) for k in KS}
        found |= {f"image_to_text_r@{k}": float((to_text < k).mean()) for k in KS}
    if len(evaluation.labels):
        right = evaluation.labels[:, None] == np.arange(len(text))
        found["zero_shot_accuracy"] = float((ranks(image, text, right) < 1).mean())
    return found


def queries(name: str, evaluation: Evaluation) -> int:
    """How many queries a score of :func:`scores` is the mean of."""
    return len(evaluation.tokens) if name.startswith("text_to_image") else len(evaluation.pixels)


def agreement(image: Embeddings, reference: Embeddings) -> float:
    """Share of each picture's ten nearest others that are among those of the reference; both float32 [N, D]."""
    ours, theirs = _neighbours(image), _neighbours(reference)
    shared = [np.isin(mine, other).mean() for mine, other in zip(ours, theirs, strict=True)]
    return float(np.mean(shared))


def ranks(queries: Embeddings, items: Embeddings, wanted: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """How many other items come before the best wanted one, for each query; of those that tie with it, half count.

    Args:
        queries: float32 [Q, D], unit length.
        items: float32 [N, D], unit length.
        wanted: bool [Q, N], at least one in each row.
    """
    found = []
    for start in range(0, len(queries), _ROWS):
        similarity = queries[start : start + _ROWS] @ items.T  # [rows, N]
        right = wanted[start : start + _ROWS]
        best = np.where(right, similarity, -np.inf).max(axis=1, keepdims=True)
        nearer = ((similarity > best + _TIE) & ~right).sum(axis=1)
        not_farther = (~(similarity < best - _TIE) & ~right).sum(axis=1)  # so that a NaN is never a hit
        found.append((nearer + not_farther) / 2)
    return np.concatenate(found)


def _neighbours(embeddings: Embeddings) -> npt.NDArray[np.int64]:
    """Positions of the ten nearest others of each row: [N, 10], fewer where there are fewer."""
    count = min(_NEIGHBOURS, len(embeddings) - 1)
    nearest = []
    for start in range(0, len(embeddings), _ROWS):
        similarity = embeddings[start : start + _ROWS] @ embeddings.T
        similarity[np.arange(len(similarity)), np.arange(start, start + len(similarity))] = -np.inf
        nearest.append(np.argsort(-similarity, axis=1)[:, :count])
    return np.concatenate(nearest)
