"""Chinese-CLIP as Hugging Face stores it."""

from __future__ import annotations

from typing import Any

from clip_client.spec import ModelSpec
from clip_export.families.hugging_face import HuggingFace
from clip_export.towers.pooling import first
from clip_export.towers.text_towers import MaskedTextTower


class ChineseClip(HuggingFace):
    """``model_type: chinese_clip``: a BERT, pooled at its first position, beside CLIP's image tower."""

    model_type = "chinese_clip"
    title = "Chinese-CLIP"
    classes = ("ChineseCLIPConfig", "ChineseCLIPModel")
    padding = "masked"
    activation = "softmax"

    def text_tower(self, model: Any, spec: ModelSpec) -> MaskedTextTower:
        """Return the BERT, pooled at [CLS]."""
        return MaskedTextTower(model.text_model, first, model.text_projection, spec)
