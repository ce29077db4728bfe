"""NVIDIA's GroupViT as Hugging Face stores it."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from clip_client.spec import ModelSpec
from clip_export.families.clip import Clip
from clip_export.towers.image_tower import PooledProjection
from clip_export.towers.pooled_layer import read_one
from clip_export.towers.pooling import at_end
from clip_export.towers.text_towers import CausalTextTower


class GroupVit(Clip):
    """``model_type: groupvit``: patches gathered into groups, whose mean is the picture; CLIP's text tower."""

    model_type = "groupvit"
    title = "GroupViT"
    classes = ("GroupViTConfig", "GroupViTModel")

    def image_encoder(self, model: Any) -> PooledProjection:
        """Return the vision model with its pooling."""
        return PooledProjection(model.vision_model, model.visual_projection)

    def text_tower(self, model: Any, spec: ModelSpec) -> CausalTextTower:
        """Return the text model under a causal mask."""
        read_one(model.text_model.encoder, at_end)
        return _TextTower(model.text_model, model.text_projection, spec)


class _TextTower(CausalTextTower):
    """CLIP's, whose attention wants the mask once for each text."""

    def mask(self, tokens: Tensor) -> Tensor:
        """Return the causal mask [N, 1, L, L]."""
        return super().mask(tokens).expand(tokens.shape[0], -1, -1, -1)
