"""BAAI's AltCLIP as Hugging Face stores it."""

from __future__ import annotations

from typing import Any

from torch import nn

from clip_client.spec import ModelSpec
from clip_export.checkpoints.checkpoint import Checkpoint
from clip_export.families.hugging_face import HuggingFace, context_length
from clip_export.libraries.base import Library
from clip_export.libraries.hugging_face import Transformers
from clip_export.towers.pooling import first
from clip_export.towers.text_towers import MaskedTextTower


class AltClip(HuggingFace):
    """``model_type: altclip``: an XLM-RoBERTa, pooled at its first position, beside CLIP's image tower."""

    model_type = "altclip"
    title = "AltCLIP"
    classes = ("AltCLIPConfig", "AltCLIPModel")
    padding = "masked"
    activation = "softmax"

    def context(self, text: dict[str, Any], checkpoint: Checkpoint) -> int:
        """Return the most tokens of a text; RoBERTa counts positions from behind its padding token."""
        return context_length(text["max_position_embeddings"] - _reserved(text), checkpoint)

    def text_tower(self, model: Any, spec: ModelSpec) -> MaskedTextTower:
        """Return the XLM-RoBERTa, pooled at its first token, with both of its projections."""
        text = model.text_model
        return MaskedTextTower(
            text.roberta, first, nn.Sequential(text.pre_LN, text.transformation, model.text_projection), spec
        )

    def library(self, checkpoint: Checkpoint) -> Library:
        """Return transformers for the checkpoint, with nothing loaded yet."""
        reserved = _reserved(self.config(checkpoint).text_config.to_dict())
        return Transformers(checkpoint.folder, padded=False, reserved=reserved)


def _reserved(text: dict[str, Any]) -> int:
    """Return the number of positions that no token takes."""
    return int(text["pad_token_id"]) + 1
