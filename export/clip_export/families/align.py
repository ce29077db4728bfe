"""Kakao Brain's ALIGN as Hugging Face stores it."""

from __future__ import annotations

from typing import Any

from torch import nn

from clip_client.spec import ModelSpec
from clip_export.checkpoints.checkpoint import Checkpoint
from clip_export.families.hugging_face import HuggingFace
from clip_export.towers.image_tower import PooledProjection
from clip_export.towers.pooling import first
from clip_export.towers.text_towers import MaskedTextTower


class Align(HuggingFace):
    """``model_type: align``: a BERT, pooled at its first position, beside an EfficientNet that isn't projected."""

    model_type = "align"
    title = "ALIGN"
    classes = ("AlignConfig", "AlignModel")
    padding = "masked"
    activation = "softmax"

    def image_side(self, config: dict[str, Any]) -> None:
        """Return None: a network of convolutions takes any size, and checkpoints are used at another than they say."""

    def logit_scale(self, checkpoint: Checkpoint) -> float:
        """Return the factor on cosines, whose reciprocal is stored."""
        return 1 / float(checkpoint.tensor("temperature"))

    def image_encoder(self, model: Any) -> PooledProjection:
        """Return the image model, pooled by itself."""
        return PooledProjection(model.vision_model, nn.Identity())

    def text_tower(self, model: Any, spec: ModelSpec) -> MaskedTextTower:
        """Return the BERT, pooled at [CLS]."""
        return MaskedTextTower(model.text_model, first, model.text_projection, spec)
