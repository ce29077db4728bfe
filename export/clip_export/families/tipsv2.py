"""Google DeepMind's TIPS v2 as Hugging Face stores it."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from clip_client.errors import InvalidInput
from clip_client.spec import TOWERS, ModelSpec, Tower
from clip_export.checkpoints.checkpoint import Checkpoint
from clip_export.families.hugging_face import HuggingFace
from clip_export.libraries.base import Library
from clip_export.libraries.tipsv2 import TipsV2Library
from clip_export.towers.image_tower import PooledProjection
from clip_export.towers.pooling import mean
from clip_export.towers.text_towers import MaskedTextTower


class TipsV2(HuggingFace):
    """``model_type: tipsv2``: the mean over a text's tokens, beside a vision transformer read at its first class token.

    Its tokenizer ends texts with nothing. The one that is served ends them with the padding token, which the tower doesn't
    look at (``checkpoints/tips_tokenizer.py``); so the context is one token longer than the library's.
    """

    model_type = "tipsv2"
    title = "TIPS v2"
    classes = ("Tipsv2Config", "Tipsv2Model")
    padding = "masked"
    activation = "softmax"

    def embedding_size(self, config: dict[str, Any]) -> int:
        """Return the width of both towers, which aren't projected."""
        return int(config["vision_config"]["hidden_size"])

    def positions(self, text: dict[str, Any]) -> int:
        """Return the text tower's positions, and one for the end."""
        return int(text["max_position_embeddings"]) + 1

    def logit_scale(self, checkpoint: Checkpoint) -> float:
        """Return the factor on cosines: the reciprocal of a temperature that the weights or the configuration hold."""
        try:
            return 1 / float(checkpoint.tensor("temperature"))
        except InvalidInput:
            return 1 / float(self.config(checkpoint).temperature_init_value)

    def image_encoder(self, model: Any) -> PooledProjection:
        """Return the image model at its first class token."""
        return PooledProjection(model.vision_model, nn.Identity())

    def text_tower(self, model: Any, spec: ModelSpec) -> MaskedTextTower:
        """Return the text model with one position more, pooled to the mean over the text without its end."""
        embeddings = model.text_model.embeddings
        embeddings.position_ids = torch.arange(spec.context_length)[None]
        embeddings.position_embedding.make_weights(spec.context_length, model.text_model.config.hidden_size)
        return MaskedTextTower(_Unpooled(model.text_model), mean, nn.Identity(), spec, end_is_seen=False)

    def libraries(self, checkpoint: Checkpoint) -> Mapping[Tower, Library]:
        """Return transformers for both towers."""
        return dict.fromkeys(TOWERS, TipsV2Library(checkpoint.folder, padded=False))

    def _special_tokens(self, checkpoint: Checkpoint, text: dict[str, Any]) -> tuple[int, int]:
        """Return (end, pad); rows are filled with another token than that which ends texts, and nobody looks at it."""
        if "text_config" not in checkpoint.config:
            raise InvalidInput(
                f"{checkpoint.label}: config.json is that of the repository's own code, which isn't run: expected a "
                "text_config and a vision_config, as transformers saves a TIPS v2 since 5.16"
            )
        end, _ = super()._special_tokens(checkpoint, text)
        return end, int(end == 0)


class _Unpooled(nn.Module):
    """The text model without its own pooling, which takes another mask than attention does."""

    model: Any

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SimpleNamespace:
        """Encode tokens [N, L] under an additive mask [N, 1, 1, L]."""
        embedded = self.model.embeddings(input_ids=input_ids)
        hidden = self.model.encoder(inputs_embeds=embedded, attention_mask=attention_mask).last_hidden_state
        return SimpleNamespace(last_hidden_state=self.model.final_layer_norm(hidden))
