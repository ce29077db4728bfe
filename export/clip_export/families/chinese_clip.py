"""Chinese-CLIP as Hugging Face stores it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clip_client.spec import ModelSpec
from clip_export.families.hugging_face import HuggingFace

if TYPE_CHECKING:
    from clip_export.towers import MaskedTextTower, PooledProjection


class ChineseClip(HuggingFace):
    """``model_type: chinese_clip``: a BERT, read at its first position, beside CLIP's image tower."""

    model_type = "chinese_clip"
    title = "Chinese-CLIP"
    classes = ("ChineseCLIPConfig", "ChineseCLIPModel")
    padding = "masked"
    activation = "softmax"

    def embedding_size(self, config: dict[str, Any]) -> int:
        """Both towers are projected."""
        return int(config["projection_dim"])

    def image_encoder(self, model: Any) -> PooledProjection:
        """The vision model, pooled at its class token."""
        from clip_export.reading import read_one
        from clip_export.towers import PooledProjection, first

        read_one(model.vision_model.encoder, first)
        return PooledProjection(model.vision_model, model.visual_projection)

    def text_tower(self, model: Any, spec: ModelSpec) -> MaskedTextTower:
        """The BERT, read at [CLS]."""
        from clip_export.towers import MaskedTextTower, first

        return MaskedTextTower(model.text_model, first, model.text_projection, spec)
