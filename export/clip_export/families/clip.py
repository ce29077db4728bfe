"""OpenAI's CLIP as Hugging Face stores it, and checkpoints trained like it."""

from __future__ import annotations

from typing import Any

from clip_client.errors import InvalidInput
from clip_client.spec import ModelSpec
from clip_export.checkpoints.checkpoint import Checkpoint
from clip_export.families.hugging_face import HuggingFace, context_length, parsed
from clip_export.libraries.base import Library
from clip_export.libraries.hugging_face import Transformers
from clip_export.towers.pooled_layer import read_one
from clip_export.towers.pooling import at_end
from clip_export.towers.text_towers import CausalTextTower

_POSITIONS = "text_model.embeddings.position_embedding.weight"


class Clip(HuggingFace):
    """``model_type: clip``: a causal text tower, pooled at the first end token.

    Checkpoints with longer texts (LongCLIP) say in their files as few tokens as CLIP has. Their
    table of positions says how many it is; their documentation sets both numbers to it.
    """

    model_type = "clip"
    title = "CLIP"
    classes = ("CLIPConfig", "CLIPModel")
    padding = "trailing"
    activation = "softmax"

    def config(self, checkpoint: Checkpoint) -> Any:
        """Return the configuration, with as many positions as the weights have where they are more."""
        config = super().config(checkpoint)
        if positions := self._longer(config, checkpoint):
            config.text_config.max_position_embeddings = positions
        return config

    def context(self, text: dict[str, Any], checkpoint: Checkpoint) -> int:
        """Return the most tokens of a text; the tokenizer's limit belongs to the shorter positions of a configuration."""
        positions = self._longer(super().config(checkpoint), checkpoint)
        return context_length(text["max_position_embeddings"], checkpoint, positions or None)

    def text_tower(self, model: Any, spec: ModelSpec) -> CausalTextTower:
        """Return the text model under a causal mask."""
        read_one(model.text_model.encoder, at_end)
        return CausalTextTower(model.text_model, model.text_projection, spec)

    def library(self, checkpoint: Checkpoint) -> Library:
        """Return transformers for the checkpoint, with nothing loaded yet."""
        positions = self._longer(super().config(checkpoint), checkpoint)
        return Transformers(checkpoint.folder, padded=False, positions=positions)

    def check_end(self, end_token: int, text: dict[str, Any], checkpoint: Checkpoint) -> None:
        """Accept the tokenizer's end token, or ``eos_token_id: 2``.

        Many configs still carry the latter; transformers then pools at the largest id (its pull request #24773).
        """
        if text["eos_token_id"] != 2:
            refuse_other_end(end_token, text, checkpoint)
        largest = largest_token(checkpoint)
        if text["eos_token_id"] == 2 != end_token and largest > end_token:
            raise InvalidInput(
                f"{checkpoint.label}: with eos_token_id 2 in config.json, transformers reads a text at its largest token, "
                f"which may be one up to {largest} beside the end token {end_token}: set eos_token_id to {end_token}"
            )

    def _longer(self, config: Any, checkpoint: Checkpoint) -> int:
        """Return the number of positions in the weights where it is larger than the configuration's; else 0."""
        try:
            positions = int(checkpoint.tensor(_POSITIONS).shape[0])
        except InvalidInput:  # the loading of the weights says what they lack
            return 0
        return positions if positions > config.text_config.max_position_embeddings else 0


def largest_token(checkpoint: Checkpoint) -> int:
    """Return the largest token that a tokenizer gives."""
    return max(parsed(checkpoint).get_vocab().values())


def refuse_other_end(end_token: int, text: dict[str, Any], checkpoint: Checkpoint) -> None:
    """Raise InvalidInput where a configuration ends texts with another token than the tokenizer."""
    if text["eos_token_id"] != end_token:
        raise InvalidInput(
            f"{checkpoint.label}: config.json ends texts with token {text['eos_token_id']}, the tokenizer with "
            f"{end_token}: save the tokenizer that belongs to the weights"
        )
