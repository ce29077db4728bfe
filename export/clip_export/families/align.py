"""ALIGN as Hugging Face stores it."""

from __future__ import annotations

from typing import Any

from torch import nn

from clip_client.errors import InvalidInput
from clip_client.spec import ModelSpec
from clip_export.checkpoints.checkpoint import Checkpoint
from clip_export.families.hugging_face import HuggingFace
from clip_export.towers.image_tower import PooledProjection
from clip_export.towers.pooling import first
from clip_export.towers.text_towers import MaskedTextTower


class Align(HuggingFace):
    """``model_type: align``: an EfficientNet, which isn't projected, beside a BERT, pooled at its first position."""

    model_type = "align"
    title = "ALIGN"
    classes = ("AlignConfig", "AlignModel")
    attention = "eager"
    padding = "masked"
    activation = "softmax"

    def logit_scale(self, checkpoint: Checkpoint, config: dict[str, Any]) -> float:
        """Return the inverse of the temperature."""
        if not (temperature := float(self.tensor(checkpoint, "temperature"))):
            raise InvalidInput(
                f"{checkpoint.label}: the temperature is 0, expected what cosines are divided by: is the file whole?"
            )
        return 1 / temperature

    def image_side(self, config: dict[str, Any]) -> None:
        """Return None: a network of convolutions takes any size, and checkpoints are used at another than they say."""

    def image_encoder(self, model: Any) -> PooledProjection:
        """Return the EfficientNet with its pooling."""
        return PooledProjection(model.vision_model, nn.Identity())

    def text_tower(self, model: Any, spec: ModelSpec) -> MaskedTextTower:
        """Return the BERT, pooled at [CLS]."""
        return MaskedTextTower(model.text_model, first, model.text_projection, spec)
