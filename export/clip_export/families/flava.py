"""FLAVA's two towers as Hugging Face stores them, without its multimodal encoder."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from clip_client.spec import ModelSpec
from clip_export.checkpoints.checkpoint import Checkpoint
from clip_export.families.hugging_face import HuggingFace, side, stored
from clip_export.libraries.base import Library
from clip_export.libraries.flava import FlavaLibrary
from clip_export.towers.image_tower import PooledProjection
from clip_export.towers.pooling import first
from clip_export.towers.text_towers import MaskedTextTower


class Flava(HuggingFace):
    """``model_type: flava``: two transformers, each read at its first position in front of a projection.

    Its global contrastive loss reads them so (``FlavaForPreTraining.forward``); ``get_*_features`` projects all positions.
    """

    model_type = "flava"
    title = "FLAVA"
    classes = ("FlavaConfig", "FlavaModel")
    padding = "masked"
    activation = "softmax"

    def image_side(self, config: dict[str, Any]) -> int:
        """Return the side of the pictures that the image encoder takes."""
        return side(config["image_config"]["image_size"])

    def logit_scale(self, checkpoint: Checkpoint) -> float:
        """Return the factor on cosines, from a FlavaForPreTraining as on the hub, or from a FlavaModel."""
        return math.exp(float(stored(checkpoint, "flava.logit_scale", "logit_scale")))

    def image_encoder(self, model: Any) -> nn.Module:
        """Return the image encoder at its first position."""
        model.image_model.pooler = First()
        return PooledProjection(model.image_model, model.image_projection)

    def text_tower(self, model: Any, spec: ModelSpec) -> MaskedTextTower:
        """Return the text encoder at its first position."""
        return MaskedTextTower(model.text_model, first, model.text_projection, spec)

    def library(self, checkpoint: Checkpoint) -> Library:
        """Return transformers, read at the first position."""
        return FlavaLibrary(checkpoint.folder, padded=False)


class First(nn.Module):
    """Pooling of hidden states [N, L, W] at the first position, as a module."""

    def forward(self, hidden: Any) -> Any:
        """Pool."""
        return first(hidden)
