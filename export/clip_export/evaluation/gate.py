"""Gate: scores of a variant beside torch, and the limits that they must keep."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from clip_client.spec import ModelSpec, Tower
from clip_client.tokens import void_token
from clip_export.evaluation import retrieval
from clip_export.evaluation.items import Evaluation
from clip_export.evaluation.retrieval import Embeddings
from clip_export.variants.base import Encoder, Limits

_BATCH = 16  # items whose activations are held at once
_SINGLES = 8  # items embedded one by one as well


@dataclass(frozen=True)
class Invariance:
    """Cosines between two embeddings of the same item by the same variant; 1 is perfect.

    Attributes:
        batch: worst item, alone against in a batch.
        padding: worst text, short against padded to the whole context with any token; None where texts are never short.
    """

    batch: float
    padding: float | None


@dataclass(frozen=True)
class Scores:
    """One variant of one tower beside torch.

    Attributes:
        cosine_min: worst item.
        cosine_mean: all items.
        invariance: of batches and padding.
        retrieval: with torch's other tower, 0 to 1 by name; empty where nothing is labelled.
        lost: points (hundredths) of each that torch has more.
        agreement: share of each picture's ten nearest neighbours that torch has too; None for texts.
    """

    cosine_min: float
    cosine_mean: float
    invariance: Invariance
    retrieval: dict[str, float]
    lost: dict[str, float]
    agreement: float | None


@dataclass(frozen=True)
class Allowed:
    """Limits that the user may set.

    Attributes:
        lost_points: most points of any recall or accuracy.
        int8_cosine_mean: least mean cosine of an int8 variant.
        approximate: variants that approximate others may pass.
    """

    lost_points: float = 1.0
    int8_cosine_mean: float = 0.98
    approximate: bool = False

    def limits(self, limits: Limits, quantized: bool) -> Limits:
        """Return a variant's own limits, with the user's where they apply."""
        return Limits(limits.cosine_min, self.int8_cosine_mean, limits.invariance) if quantized else limits

    def too_much(self, lost: float, queries: int) -> bool:
        """Return True beyond the allowed loss; one query is always allowed: of a hundred it is a whole point, and chance."""
        return lost > max(self.lost_points, 100 / queries) + 1e-9


class Gate:
    """Judges embeddings of one evaluation against torch's; all are float32 of unit length."""

    def __init__(self, evaluation: Evaluation, reference: dict[Tower, Embeddings], allowed: Allowed) -> None:
        self._evaluation = evaluation
        self._reference = reference
        self._allowed = allowed
        self._expected = retrieval.scores(reference["image"], reference["text"], evaluation)

    def scores(self, tower: Tower, embeddings: Embeddings, invariance: Invariance) -> Scores:
        """Compare one tower's embeddings [N, D] with torch's."""
        cosines = _cosines(embeddings, self._reference[tower])
        retrieved = self.retrieval({**self._reference, tower: embeddings})
        return Scores(
            cosine_min=float(cosines.min()),
            cosine_mean=float(cosines.mean()),
            invariance=invariance,
            retrieval=retrieved,
            lost={name: 100 * (self._expected[name] - score) for name, score in retrieved.items()},
            agreement=retrieval.agreement(embeddings, self._reference["image"]) if tower == "image" else None,
        )

    def retrieval(self, towers: dict[Tower, Embeddings]) -> dict[str, float]:
        """Return recalls and accuracy of two towers together."""
        return retrieval.scores(towers["image"], towers["text"], self._evaluation)

    def failures(self, scores: Scores, limits: Limits, quantized: bool) -> list[str]:
        """Return the scores below the limits, each with figure and limit; empty if all pass."""
        limits = self._allowed.limits(limits, quantized)
        checked = [
            ("cosine_min", scores.cosine_min, limits.cosine_min),
            ("cosine_mean", scores.cosine_mean, limits.cosine_mean),
            ("batch invariance", scores.invariance.batch, limits.invariance),
            ("padding invariance", 1 if scores.invariance.padding is None else scores.invariance.padding, limits.invariance),
        ]
        below = [f"{name} {score:.4f} below {limit:g}" for name, score, limit in checked if not score >= limit]
        return below + self.losses(scores)

    def refusal(self, approximates: str) -> list[str]:
        """Return the objection to a variant that approximates another, unless the user allows it."""
        if not approximates or self._allowed.approximate:
            return []
        return [f"it approximates {approximates}, which --allow-approximate would allow"]

    def losses(self, scores: Scores) -> list[str]:
        """Return the recalls and accuracies that lost more than is allowed."""
        return [
            f"{name} {lost:.1f} points lost"
            for name, lost in scores.lost.items()
            if self._allowed.too_much(lost, retrieval.queries(name, self._evaluation))
        ]


def embed(encode: Encoder, batch: npt.NDArray[np.generic]) -> Embeddings:
    """Embed in batches: float32 [N, D]."""
    return np.concatenate([encode(batch[n : n + _BATCH]) for n in range(0, len(batch), _BATCH)])


def invariance(encode: Encoder, tower: Tower, evaluation: Evaluation, embeddings: Embeddings, spec: ModelSpec) -> Invariance:
    """Embed some items again, alone and padded, and compare with their embeddings float32 [N, D] from batches."""
    batch = evaluation.inputs(tower)
    singles = np.concatenate([encode(batch[n : n + 1]) for n in range(min(_SINGLES, len(batch)))])
    may_be_short = tower == "text" and spec.padding != "full"
    return Invariance(
        batch=float(_cosines(singles, embeddings[: len(singles)]).min()),
        padding=_padding(encode, evaluation.tokens, embeddings, spec) if may_be_short else None,
    )


def _padding(encode: Encoder, tokens: npt.NDArray[np.int32], embeddings: Embeddings, spec: ModelSpec) -> float:
    """Return the worst cosine over several fillings of the context behind the text."""
    some = np.linspace(0, len(tokens) - 1, min(_BATCH * 4, len(tokens))).astype(int)
    fills = [spec.pad_token, 0, void_token(spec), spec.end_token]
    if spec.padding == "masked":  # padding begins behind the last end token
        fills.remove(spec.end_token)
    padded = [embed(encode, _filled(tokens[some], fill, spec)) for fill in dict.fromkeys(fills)]
    return float(min(_cosines(other, embeddings[some]).min() for other in padded))


def _filled(tokens: npt.NDArray[np.int32], fill: int, spec: ModelSpec) -> npt.NDArray[np.int32]:
    """Extend tokens [N, L] to [N, context_length]; replace everything behind the text by ``fill``."""
    whole = np.full((len(tokens), spec.context_length), fill, np.int32)
    is_end = tokens == spec.end_token
    lengths = 1 + (is_end.argmax(1) if spec.padding == "trailing" else (is_end * np.arange(tokens.shape[1])).argmax(1))
    for row, source, length in zip(whole, tokens, lengths, strict=True):
        row[:length] = source[:length]
    return whole


def _cosines(a: Embeddings, b: Embeddings) -> npt.NDArray[np.float64]:
    """Return the cosine of each pair of rows [N, D], in float64 so that its own rounding doesn't count; 1 of two zeros.

    Rows of zeros are texts of a model that has no text tower.
    """
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    lengths = np.linalg.norm(a64, axis=1) * np.linalg.norm(b64, axis=1)
    nothing = ~(a64.any(axis=1) | b64.any(axis=1))
    return np.asarray(np.where(nothing, 1.0, (a64 * b64).sum(1) / np.where(nothing, 1.0, lengths)))
