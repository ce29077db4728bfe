"""Checkpoint that is learned from: its description, its towers, its tokenizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from clip_client.errors import InvalidInput
from clip_client.spec import ModelSpec
from clip_client.tokens import NO_TEXTS, Tokenizer
from clip_export import families
from clip_export.builds import tower_digests
from clip_export.checkpoints import lineage
from clip_export.checkpoints.checkpoint import Checkpoint, ImagesOnly, Paired
from clip_export.checkpoints.find import find
from clip_export.learning import weight_places
from clip_export.towers import Towers

NAME = "clip"  # of the spec; a fingerprint doesn't depend on it


@dataclass(frozen=True)
class Parent:
    """A checkpoint with its towers loaded.

    Attributes:
        checkpoint: on disk.
        spec: its description.
        towers: both, in float32.
        tokenizer: the checkpoint's.
        places: names in its files of the text tower's parameters.
    """

    checkpoint: Checkpoint
    spec: ModelSpec
    towers: Towers
    tokenizer: Tokenizer
    places: Mapping[str, str]

    @classmethod
    def of(cls, name: str) -> Parent:
        """Load a checkpoint by any name that an export takes.

        Raises:
            InvalidInput: if it can't be used, or nothing can be written back into its files.
        """
        checkpoint = find(name, None)
        if isinstance(checkpoint, Paired | ImagesOnly):
            raise InvalidInput(f"{checkpoint.label} is joined of two checkpoints: expected one that has both towers")
        family = families.of(checkpoint)
        spec = family.spec(checkpoint, NAME)
        if checkpoint.tokenizer_json == NO_TEXTS:
            raise InvalidInput(f"{checkpoint.label} has no text tower: expected a checkpoint that embeds texts")
        towers = family.towers(checkpoint, spec)
        spec = tower_digests.digested(spec, towers)
        spec = tower_digests.placed(spec, lineage.read(checkpoint.folder), checkpoint.label)
        places = weight_places.places(towers.text, checkpoint)
        return cls(checkpoint, spec, towers, Tokenizer(checkpoint.tokenizer_json, spec), places)

    def embed(self, texts: Sequence[str]) -> Tensor:
        """Embed texts by the text tower as it is now: float32 [N, D], unit length."""
        return embedded_by(self.towers.text, self.tokenizer, texts)

    def about(self) -> dict[str, str]:
        """Return what a lineage says of its parent."""
        spec = self.spec
        image = spec.tower_fingerprint("image")
        return {"label": spec.checkpoint, "fingerprint": spec.fingerprint, "space": spec.space, "image_fingerprint": image}


def embedded_by(tower: nn.Module, tokenizer: Tokenizer, texts: Sequence[str]) -> Tensor:
    """Embed texts by a tower: float32 [N, D], unit length; zeros for one that can't be tokenised."""
    tokens, _ = tokenizer([text.encode("utf-8", "replace") for text in texts])
    vectors: Tensor = tower(torch.from_numpy(tokens))
    return vectors
