"""The gate: a variant's embeddings beside those of the torch tower."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from clip_client.spec import ModelSpec, Tower
from clip_client.tokens import void_token
from clip_export.evaluation import Evaluation
from clip_export.variants.base import Encoder

_BATCH = 16
_SINGLES = 8  # items embedded one by one as well


@dataclass(frozen=True)
class Scores:
    """Cosines of one variant of one tower; 1 is perfect.

    Attributes:
        cosine_min: worst item, to torch.
        cosine_mean: all items, to torch.
        batch_invariance: worst item, alone against in a batch.
        padding_invariance: worst text, short against padded to the whole context with any token; None for images.
        items: how many were embedded.
    """

    cosine_min: float
    cosine_mean: float
    batch_invariance: float
    padding_invariance: float | None
    items: int

    def failures(self, limit: float) -> list[str]:
        """The names of the scores that are below the limit (or not a number)."""
        checked = {
            "cosine_min": self.cosine_min,
            "batch_invariance": self.batch_invariance,
            "padding_invariance": 1.0 if self.padding_invariance is None else self.padding_invariance,
        }
        return [name for name, score in checked.items() if not score >= limit]


def reference(module: nn.Module, batch: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    """Embed with the torch tower: float32 [N, D]."""
    with torch.inference_mode():
        return _in_batches(lambda part: module(torch.from_numpy(part)).numpy(), batch)


def judge(encode: Encoder, tower: Tower, evaluation: Evaluation, expected: npt.NDArray[np.float32], spec: ModelSpec) -> Scores:
    """Compare an encoder with the reference embeddings [N, D] of the same evaluation."""
    batch = evaluation.pixels if tower == "image" else evaluation.tokens
    embeddings = _in_batches(encode, batch)
    cosines = _cosines(embeddings, expected)
    singles = np.concatenate([encode(batch[n : n + 1]) for n in range(min(_SINGLES, len(batch)))])
    droppable = tower == "text" and spec.padding != "full"
    return Scores(
        cosine_min=float(cosines.min()),
        cosine_mean=float(cosines.mean()),
        batch_invariance=float(_cosines(singles, embeddings[: len(singles)]).min()),
        padding_invariance=_padding_invariance(encode, evaluation.tokens, embeddings, spec) if droppable else None,
        items=len(batch),
    )


def _padding_invariance(
    encode: Encoder, tokens: npt.NDArray[np.int32], embeddings: npt.NDArray[np.float32], spec: ModelSpec
) -> float:
    """Worst cosine over several ways to fill what follows the text, at the full context length."""
    fills = [spec.pad_token, 0, void_token(spec), spec.end_token]
    if spec.padding == "masked":  # what follows the last end token
        fills.remove(spec.end_token)
    padded = [_in_batches(encode, _filled(tokens, fill, spec)) for fill in dict.fromkeys(fills)]
    return float(min(_cosines(other, embeddings).min() for other in padded))


def _filled(tokens: npt.NDArray[np.int32], fill: int, spec: ModelSpec) -> npt.NDArray[np.int32]:
    """tokens [N, L] -> [N, context_length], all that follows the text replaced by ``fill``."""
    whole = np.full((len(tokens), spec.context_length), fill, np.int32)
    is_end = tokens == spec.end_token
    lengths = 1 + (is_end.argmax(1) if spec.padding == "trailing" else (is_end * np.arange(tokens.shape[1])).argmax(1))
    for row, source, length in zip(whole, tokens, lengths, strict=True):
        row[:length] = source[:length]
    return whole


def _in_batches(encode: Encoder, batch: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    return np.concatenate([encode(batch[n : n + _BATCH]) for n in range(0, len(batch), _BATCH)])


def _cosines(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Cosine of each pair of rows [N, D], in float64 so that rounding here isn't what is measured."""
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    return np.asarray((a64 * b64).sum(1) / (np.linalg.norm(a64, axis=1) * np.linalg.norm(b64, axis=1)))
