"""BAAI's AltCLIP as Hugging Face stores it."""

from __future__ import annotations

from typing import Any

from torch import nn

from clip_client.spec import ModelSpec
from clip_export.families.hugging_face import HuggingFace
from clip_export.towers.pooling import first
from clip_export.towers.text_towers import MaskedTextTower


class AltClip(HuggingFace):
    """``model_type: altclip``: an XLM-RoBERTa, pooled at its first position, beside CLIP's image tower."""

    model_type = "altclip"
    title = "AltCLIP"
    classes = ("AltCLIPConfig", "AltCLIPModel")
    padding = "masked"
    activation = "softmax"

    def positions(self, text: dict[str, Any]) -> int:
        """Return the most tokens of a text; RoBERTa counts positions from behind its padding token."""
        return int(text["max_position_embeddings"]) - int(text["pad_token_id"]) - 1

    def text_tower(self, model: Any, spec: ModelSpec) -> MaskedTextTower:
        """Return the XLM-RoBERTa, pooled at its first token, with both of its projections."""
        text = model.text_model
        return MaskedTextTower(
            text.roberta, first, nn.Sequential(text.pre_LN, text.transformation, model.text_projection), spec
        )
