"""OpenAI's CLIP as Hugging Face stores it, and all that was trained like it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clip_client.errors import InvalidInput
from clip_client.spec import ModelSpec
from clip_export.checkpoint import Checkpoint
from clip_export.families.hugging_face import HuggingFace, parsed

if TYPE_CHECKING:
    from clip_export.towers import CausalTextTower, PooledProjection


class Clip(HuggingFace):
    """``model_type: clip``: a causal text tower, read at the first end token."""

    model_type = "clip"
    title = "CLIP"
    classes = ("CLIPConfig", "CLIPModel")
    padding = "trailing"
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

    def text_tower(self, model: Any, spec: ModelSpec) -> CausalTextTower:
        """The text model under a causal mask."""
        from clip_export.reading import read_one
        from clip_export.towers import CausalTextTower, at_end

        read_one(model.text_model.encoder, at_end)
        return CausalTextTower(model.text_model, model.text_projection, spec)

    def check_end(self, end_token: int, text: dict[str, Any], checkpoint: Checkpoint) -> None:
        """The end token is what the tokenizer appends: many configs still carry ``eos_token_id: 2``, with which
        transformers reads the embedding at the largest id instead (its pull request #24773)."""
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
