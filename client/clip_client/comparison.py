"""Cosines between embeddings, and the probabilities that a checkpoint gives them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from clip_client.html_tables import Bar, table
from clip_client.spec import ModelSpec

_ROWS, _COLUMNS = 20, 10  # shown in notebooks

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Comparison:
    """Comparison of subjects with prompts; N and M are missing from the shapes where one item was passed instead of a list.

    Attributes:
        cosines: float32 [N, M], cosine of each pair.
        probabilities: float32 [N, M], the activation of ``logit_scale * cosine + logit_bias``: with softmax each row
            sums to 1 over the prompts, with sigmoid each pair stands for itself.
    """

    cosines: Floats
    probabilities: Floats

    def _repr_html_(self) -> str:
        """Return a table for notebooks: a row per subject, with bars for its first prompts."""
        shares, cosines = np.atleast_2d(self.probabilities), np.atleast_2d(self.cosines)
        rows = [
            [f"subject {n}", *(Bar(f"{cosine:.3f}", float(share)) for cosine, share in zip(*pair, strict=True))]
            for n, pair in enumerate(zip(cosines[:_ROWS, :_COLUMNS], shares[:_ROWS, :_COLUMNS], strict=True))
        ]
        return table(
            rows, head=["", *(f"prompt {n}" for n in range(shares[:, :_COLUMNS].shape[1]))], more=len(shares) - len(rows)
        )


def compared(subjects: Floats, prompts: Floats, spec: ModelSpec) -> Comparison:
    """Compare unit embeddings: subjects [N, D] or [D], prompts [M, D] or [D]."""
    cosines = np.atleast_2d(subjects) @ np.atleast_2d(prompts).T
    shape = subjects.shape[:-1] + prompts.shape[:-1]
    return Comparison(cosines.reshape(shape), probabilities(cosines, spec).reshape(shape))


def probabilities(cosines: Floats, spec: ModelSpec) -> Floats:
    """Turn cosines [N, M] into probabilities [N, M], with the checkpoint's scale, bias and activation."""
    logits = np.float32(spec.logit_scale) * cosines + np.float32(spec.logit_bias)
    if spec.activation == "sigmoid":
        return np.asarray(1 / (1 + np.exp(-logits)), np.float32)
    exponentials = np.exp(logits - np.max(logits, axis=1, keepdims=True, initial=-np.inf))
    return np.asarray(exponentials / np.sum(exponentials, axis=1, keepdims=True), np.float32)
