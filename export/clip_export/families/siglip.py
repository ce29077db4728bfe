"""Google's SigLIP and the SigLIP 2 of fixed resolution, as Hugging Face stores them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clip_client.errors import InvalidInput
from clip_client.spec import ModelSpec
from clip_export.checkpoint import Checkpoint
from clip_export.families.hugging_face import HuggingFace

if TYPE_CHECKING:
    from clip_export.towers import FullTextTower, PooledProjection


class Siglip(HuggingFace):
    """``model_type: siglip``: trained on padded text, which its text tower looks at; each pair is judged by itself."""

    model_type = "siglip"
    title = "SigLIP"
    classes = ("SiglipConfig", "SiglipModel")
    padding = "full"
    activation = "sigmoid"

    def embedding_size(self, config: dict[str, Any]) -> int:
        """The image tower isn't projected, the text tower's head gives the same width."""
        return int(config["vision_config"]["hidden_size"])

    def logit_bias(self, checkpoint: Checkpoint) -> float:
        """Learnt, about -10 to -17."""
        return float(checkpoint.tensor("logit_bias"))

    def image_encoder(self, model: Any) -> PooledProjection:
        """The vision model, pooled by attention."""
        from torch import nn

        from clip_export.towers import PooledProjection

        if not model.vision_model.use_head:
            raise InvalidInput("config.json has vision_use_head off: expected a SigLIP checkpoint with its pooling head")
        return PooledProjection(model.vision_model, nn.Identity())

    def text_tower(self, model: Any, spec: ModelSpec) -> FullTextTower:
        """The text model, read at its last position."""
        from clip_export.reading import read_one
        from clip_export.towers import FullTextTower, last

        read_one(model.text_model.encoder, last)
        return FullTextTower(model.text_model, spec)
