"""NVIDIA's GroupViT as Hugging Face stores it."""

from __future__ import annotations

from typing import Any

from clip_export.families.clip import Clip
from clip_export.towers.image_tower import PooledProjection


class GroupVit(Clip):
    """``model_type: groupvit``: patches gathered into groups, whose mean is the picture; CLIP's text tower."""

    model_type = "groupvit"
    title = "GroupViT"
    classes = ("GroupViTConfig", "GroupViTModel")

    def image_encoder(self, model: Any) -> PooledProjection:
        """Return the vision model with its pooling."""
        return PooledProjection(model.vision_model, model.visual_projection)
