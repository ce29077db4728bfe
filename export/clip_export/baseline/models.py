"""A model of the comparison: its description, its texts and pictures as it takes them, its towers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clip_client.errors import InvalidInput
from clip_client.spec import OF_TOWER, ModelSpec, Tower
from clip_client.tokens import Tokenizer
from clip_export import memory
from clip_export.evaluation import gate
from clip_export.evaluation.retrieval import Embeddings
from clip_export.towers import Towers
from clip_export.variants import REFERENCE
from clip_export.variants.base import Artefact, Encoder

_TEXTS = 256  # tokenized at once


@dataclass(frozen=True)
class Model:
    """A checkpoint run by PyTorch, or its artefacts in float32.

    Attributes:
        spec: its description, with the digests of its towers where they are known.
        tokenizer_json: its tokenizer.
        encoder: opens a tower; memory holds one at a time.
    """

    spec: ModelSpec
    tokenizer_json: str
    encoder: Callable[[Tower], Encoder]

    def texts(self, texts: Sequence[str]) -> Embeddings:
        """Embed texts: float32 [N, D], unit length.

        Raises:
            InvalidInput: if one of them can't be tokenized.
        """
        tokenizer, encode = Tokenizer(self.tokenizer_json, self.spec), self.encoder("text")
        parts = []
        for start in range(0, len(texts), _TEXTS):
            tokens, errors = tokenizer([text.encode("utf-8", "replace") for text in texts[start : start + _TEXTS]])
            if problem := next(filter(None, errors), ""):
                raise InvalidInput(f"{self.spec.checkpoint} can't embed a text of the clicks: {problem}")
            parts.append(gate.embed(encode, tokens))
        del encode
        memory.give_back()
        return np.concatenate(parts)

    def differing(self, other: Model, tower: Tower) -> list[str]:
        """Return the settings of a tower's inputs in which two models differ; none if they take the same pixels or tokens."""
        return [field for field in OF_TOWER[tower] if getattr(self.spec, field) != getattr(other.spec, field)]


def in_torch(spec: ModelSpec, tokenizer_json: str, load: Callable[[], Towers]) -> Model:
    """Return the model of a checkpoint; ``load`` loads both towers."""

    def encoder(tower: Tower) -> Encoder:
        return REFERENCE.load(Artefact(Path(), tower, lambda: load()[tower]))

    return Model(spec, tokenizer_json, encoder)
