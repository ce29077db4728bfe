"""Google's SigLIP and the SigLIP 2 of fixed resolution, as Hugging Face stores them."""

from __future__ import annotations

from typing import Any

from torch import nn

from clip_client.errors import InvalidInput
from clip_client.spec import ModelSpec
from clip_export.checkpoints.checkpoint import Checkpoint
from clip_export.families.hugging_face import HuggingFace
from clip_export.towers.image_tower import PooledProjection
from clip_export.towers.pooled_layer import read_one
from clip_export.towers.pooling import last
from clip_export.towers.text_towers import FullTextTower


class Siglip(HuggingFace):
    """``model_type: siglip``: trained on padded text, which its text tower looks at; each pair is scored by itself."""

    model_type = "siglip"
    title = "SigLIP"
    classes = ("SiglipConfig", "SiglipModel")
    padding = "full"
    activation = "sigmoid"

    def embedding_size(self, config: dict[str, Any]) -> int:
        """Return the image tower's width, which isn't projected; the text tower's head gives the same."""
        return int(config["vision_config"]["hidden_size"])

    def logit_bias(self, checkpoint: Checkpoint) -> float:
        """Return the learnt bias, about -10 to -17."""
        return float(checkpoint.tensor("logit_bias"))

    def image_encoder(self, model: Any) -> PooledProjection:
        """Return the vision model, pooled by attention."""
        if not model.vision_model.use_head:
            raise InvalidInput("config.json has vision_use_head off: expected a SigLIP checkpoint with its pooling head")
        return PooledProjection(model.vision_model, nn.Identity())

    def text_tower(self, model: Any, spec: ModelSpec) -> FullTextTower:
        """Return the text model, pooled at its last position."""
        read_one(model.text_model.encoder, last)
        return FullTextTower(model.text_model, spec)
