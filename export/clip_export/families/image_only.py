"""An image tower alone, for picture-to-picture search: a dual encoder's, or a vision model of transformers.

All six models are published as ever. The tokenizer of the text models answers each text with an error that says why.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from clip_client.errors import InvalidInput
from clip_client.library_errors import one_line
from clip_client.spec import ModelSpec, Tower
from clip_client.tokens import NO_TEXTS
from clip_export.checkpoints import image_processor
from clip_export.checkpoints.checkpoint import Checkpoint, ImagesOnly
from clip_export.families.base import Family
from clip_export.families.hugging_face import HuggingFace, model_of
from clip_export.families.text_model import POOLER
from clip_export.libraries.base import Library
from clip_export.libraries.vision_model import NoTexts, VisionModel, embedding, model_class
from clip_export.towers import Towers
from clip_export.towers.image_tower import ImageTower
from clip_export.towers.text_towers import NoTextTower

_TEXT_FIELDS: dict[str, Any] = {
    "context_length": 1,
    "padding": "full",
    "pad_token": 0,
    "end_token": 1,
    "tokenizer_sha256": hashlib.sha256(NO_TEXTS.encode()).hexdigest(),
}
"""Fields of a spec about texts, where there are none."""


class ImageOnly(Family):
    """The image tower of a dual encoder, whose text tower is left out."""

    def __init__(self, dual: HuggingFace) -> None:
        self._dual = dual

    def describe(self, checkpoint: Checkpoint, name: str) -> ModelSpec:
        """Describe the dual encoder, without what is about texts."""
        spec = self._dual.spec(_whole(checkpoint), name)
        return dataclasses.replace(spec, family=f"image-only {spec.family}", **_TEXT_FIELDS)

    def load(self, checkpoint: Checkpoint, spec: ModelSpec) -> Towers:
        """Load the dual encoder's image tower."""
        whole = _whole(checkpoint)
        image = self._dual.towers(whole, self._dual.spec(whole, spec.name)).image
        return Towers(image=image, text=NoTextTower(spec).eval())

    def libraries(self, checkpoint: Checkpoint) -> Mapping[Tower, Library]:
        """Return the dual encoder's library for pictures."""
        return {"image": self._dual.libraries(_whole(checkpoint))["image"], "text": NoTexts()}


class VisionOnly(Family):
    """A vision model of transformers, such as CLIPVisionModelWithProjection, SiglipVisionModel or DINOv2."""

    def describe(self, checkpoint: Checkpoint, name: str) -> ModelSpec:
        """Describe a vision model from its configs."""
        image = image_processor.image_fields(checkpoint.processor, checkpoint.label)
        return ModelSpec(
            name=name,
            checkpoint=checkpoint.label,
            revision=checkpoint.revision,
            family=f"image-only {checkpoint.config.get('model_type')}",
            **image,
            embedding_size=_width(checkpoint, image["image_size"]),
            logit_scale=1.0,
            logit_bias=0.0,
            activation="softmax",
            weights_sha256=checkpoint.weights_sha256,
            **_TEXT_FIELDS,
        )

    def load(self, checkpoint: Checkpoint, spec: ModelSpec) -> Towers:
        """Load through transformers."""
        try:
            model = model_of(model_class(checkpoint.folder), checkpoint, "a vision model")
        except InvalidInput as problem:
            if f" {POOLER}" not in str(problem):
                raise
            raise InvalidInput(
                f"{checkpoint.label} was trained without its pooler, so that transformers embeds no picture with it: expected "
                "a vision model with a pooled output, such as facebook/dinov2-base"
            ) from problem
        return Towers(image=ImageTower(_Embedded(model), spec).eval(), text=NoTextTower(spec).eval())

    def libraries(self, checkpoint: Checkpoint) -> Mapping[Tower, Library]:
        """Return transformers for pictures."""
        return {"image": VisionModel(checkpoint.folder), "text": NoTexts()}


class _Embedded(nn.Module):
    """Normalised pixels [N, 3, S, S] -> a vision model's own embedding [N, D]."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, normalised: torch.Tensor) -> torch.Tensor:
        """Encode and pool."""
        return embedding(self.model(pixel_values=normalised))


def _width(checkpoint: Checkpoint, size: int) -> int:
    """Return D, by running the model's shapes alone on one picture.

    Raises:
        InvalidInput: if the model has no embedding of a whole picture, or takes no pictures of that size.
    """
    try:
        kind = model_class(checkpoint.folder)
        with torch.device("meta"):
            model = kind(kind.config_class.from_pretrained(checkpoint.folder, local_files_only=True)).eval()
            return int(embedding(model(pixel_values=torch.zeros(1, 3, size, size))).shape[1])
    except Exception as problem:  # of any model of transformers
        raise InvalidInput(
            f"{checkpoint.label} gives no embedding of a picture of {size} x {size} pixels ({one_line(problem)}): expected a "
            "vision model of transformers with a pooled output, and the processor that belongs to it"
        ) from problem


def _whole(checkpoint: Checkpoint) -> Checkpoint:
    assert isinstance(checkpoint, ImagesOnly)  # noqa: S101  (families.of chose this family for it)
    return checkpoint.whole
