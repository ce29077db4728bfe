"""A model of the comparison: its description, its texts and pictures as it takes them, its towers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import nn

from clip_client.errors import InvalidInput
from clip_client.spec import ModelSpec, Tower
from clip_client.tokens import Tokenizer
from clip_export import memory
from clip_export.evaluation import gate
from clip_export.evaluation.retrieval import Embeddings
from clip_export.towers import Towers
from clip_export.variants import REFERENCE
from clip_export.variants.base import Artefact, Encoder

# Fields of a spec.
_PIXELS = ("image_size", "resize_mode", "resize_size", "interpolation", "mean", "std", "transparency", "patch_size")
_TOKENS = ("tokenizer_sha256", "context_length", "padding", "pad_token", "end_token")

_TEXTS = 256  # tokenized at once


@dataclass(frozen=True)
class Model:
    """A checkpoint run by PyTorch, or its artefacts in float32.

    Attributes:
        spec: its description.
        tokenizer_json: its tokenizer.
        encoder: opens a tower; memory holds one at a time.
        image_digest: returns a digest of the image tower's weights; empty where only artefacts are there.
    """

    spec: ModelSpec
    tokenizer_json: str
    encoder: Callable[[Tower], Encoder]
    image_digest: Callable[[], str]

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

    def other_pixels(self, other: Model) -> list[str]:
        """Return the settings that make other pixels of a picture; none if all are the same."""
        return [field for field in _PIXELS if getattr(self.spec, field) != getattr(other.spec, field)]

    def other_inputs(self, other: Model) -> list[str]:
        """Return the settings that make other pixels or tokens; none if all are the same."""
        return [field for field in (*_PIXELS, *_TOKENS) if getattr(self.spec, field) != getattr(other.spec, field)]


def in_torch(spec: ModelSpec, tokenizer_json: str, load: Callable[[], Towers]) -> Model:
    """Return the model of a checkpoint; ``load`` loads both towers."""

    def encoder(tower: Tower) -> Encoder:
        return REFERENCE.load(Artefact(Path(), tower, lambda: load()[tower]))

    def image_digest() -> str:
        digest = digest_of(load().image)
        memory.give_back()
        return digest

    return Model(spec, tokenizer_json, encoder, image_digest)


def digest_of(module: nn.Module) -> str:
    """Return a digest of a torch module's weights, their names and types included."""
    sha256 = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        sha256.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha256.update(tensor.detach().contiguous().numpy().tobytes())
    return sha256.hexdigest()
