"""OpenAI's CLIP as Hugging Face stores it, and checkpoints trained like it."""

from __future__ import annotations

from typing import Any

from clip_client.errors import InvalidInput
from clip_client.spec import ModelSpec
from clip_export.checkpoints.checkpoint import Checkpoint
from clip_export.families.hugging_face import HuggingFace, parsed
from clip_export.towers.pooled_layer import read_one
from clip_export.towers.pooling import at_end
from clip_export.towers.text_towers import CausalTextTower


class Clip(HuggingFace):
    """``model_type: clip``: a causal text tower, pooled at the first end token."""

    model_type = "clip"
    title = "CLIP"
    classes = ("CLIPConfig", "CLIPModel")
    padding = "trailing"
    activation = "softmax"

    def text_tower(self, model: Any, spec: ModelSpec) -> CausalTextTower:
        """Return the text model under a causal mask."""
        read_one(model.text_model.encoder, at_end)
        return CausalTextTower(model.text_model, model.text_projection, spec)

    def check_end(self, end_token: int, text: dict[str, Any], checkpoint: Checkpoint) -> None:
        """Accept the tokenizer's end token, or ``eos_token_id: 2``.

        Many configs still carry the latter; transformers then pools at the largest id (its pull request #24773).
        """
        if text["eos_token_id"] not in (2, end_token):
            raise InvalidInput(
                f"{checkpoint.label}: config.json ends texts with token {text['eos_token_id']}, the tokenizer with "
                f"{end_token}: save the tokenizer that belongs to the weights"
            )
        largest = max(parsed(checkpoint).get_vocab().values())
        if text["eos_token_id"] == 2 != end_token and largest > end_token:
            raise InvalidInput(
                f"{checkpoint.label}: with eos_token_id 2 in config.json, transformers reads a text at its largest token, "
                f"which may be one up to {largest} beside the end token {end_token}: set eos_token_id to {end_token}"
            )
