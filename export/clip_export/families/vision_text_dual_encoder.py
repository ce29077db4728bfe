"""Any image model beside any text model of transformers, each behind a projection, such as clip-italian and KoCLIP."""

from __future__ import annotations

from typing import Any

from torch import nn

from clip_client.errors import InvalidInput
from clip_client.spec import ModelSpec
from clip_export.checkpoints.text_positions import text_positions
from clip_export.families.hugging_face import HuggingFace, side
from clip_export.towers.image_tower import PooledProjection
from clip_export.towers.pooled_layer import read_one
from clip_export.towers.pooling import first
from clip_export.towers.text_towers import MaskedTextTower, PoolerOutput

_TEXT_MODELS = ("bert", "roberta", "xlm-roberta", "camembert", "albert", "ernie", "mpnet", "roberta-prelayernorm")
"""Bidirectional text models with a pooler of their own, which transformers reads; it has none for DistilBERT, say."""

_ANY_SIZE = ("dinov2", "dinov2_with_registers", "dinov3_vit", "swin", "swinv2")
"""Image models that fit themselves to the picture's size, so that their configuration doesn't tell it."""


class VisionTextDualEncoder(HuggingFace):
    """``model_type: vision-text-dual-encoder``: two models that its configuration names."""

    model_type = "vision-text-dual-encoder"
    title = "VisionTextDualEncoder"
    classes = ("VisionTextDualEncoderConfig", "VisionTextDualEncoderModel")
    padding = "masked"
    activation = "softmax"

    def image_side(self, config: dict[str, Any]) -> int | None:
        """Return the image model's side, unless it takes any."""
        vision = config["vision_config"]
        return None if vision["model_type"] in _ANY_SIZE or "image_size" not in vision else side(vision["image_size"])

    def positions(self, text: dict[str, Any]) -> int:
        """Return the text model's positions.

        Raises:
            InvalidInput: if it is a model whose pooled output can't be followed.
        """
        from transformers import AutoConfig

        kind = text["model_type"]
        if kind not in _TEXT_MODELS:
            raise InvalidInput(f"its text_config is of a {kind!r}, which can't be followed: expected {', '.join(_TEXT_MODELS)}")
        if text.get("is_decoder"):
            raise InvalidInput(f"its {kind} has is_decoder on, so that tokens don't see later ones: expected an encoder")
        return text_positions(AutoConfig.for_model(**text))

    def image_encoder(self, model: Any) -> nn.Module:
        """Return the image model, pooled by itself, and its projection."""
        vision = model.vision_model
        if vision.config.model_type == "clip_vision_model":
            read_one(vision.encoder, first)
        return PooledProjection(vision, model.visual_projection)

    def text_tower(self, model: Any, spec: ModelSpec) -> MaskedTextTower:
        """Return the text model, pooled by its own pooler."""
        return MaskedTextTower(PoolerOutput(model.text_model), first, model.text_projection, spec)
