"""Google's SigLIP and the SigLIP 2 of fixed resolution, as Hugging Face stores them."""

from __future__ import annotations

from typing import Any

from torch import nn

from clip_client.errors import InvalidInput
from clip_client.spec import ModelSpec
from clip_export.checkpoints.checkpoint import Checkpoint
from clip_export.families.hugging_face import HuggingFace, check_padding_side
from clip_export.towers.image_tower import PooledProjection
from clip_export.towers.pooled_layer import LastLayer
from clip_export.towers.pooling import last
from clip_export.towers.text_towers import FullTextTower


class Siglip(HuggingFace):
    """``model_type: siglip``: trained on padded text, which its text tower looks at; each pair is scored by itself."""

    model_type = "siglip"
    title = "SigLIP"
    classes = ("SiglipConfig", "SiglipModel")
    padding = "full"
    activation = "sigmoid"

    def embedding_size(self, config: dict[str, Any]) -> int:
        """Return the image tower's width, which isn't projected; the text tower's head gives the same."""
        return int(config["vision_config"]["hidden_size"])

    def logit_bias(self, checkpoint: Checkpoint) -> float:
        """Return the learnt bias, about -10 to -17."""
        return float(checkpoint.tensor("logit_bias"))

    def image_fields(self, checkpoint: Checkpoint, config: dict[str, Any]) -> dict[str, Any]:
        """Return the image processor's fields; refuse an image tower that has no pooling."""
        self.refuse_headless(checkpoint, config)
        return super().image_fields(checkpoint, config)

    def refuse_headless(self, checkpoint: Checkpoint, config: dict[str, Any]) -> None:
        """Raise InvalidInput for an image tower that has no pooling."""
        if not config["vision_config"]["vision_use_head"]:
            raise InvalidInput(
                f"{checkpoint.label}: config.json has vision_use_head off, without which transformers gives no image "
                "embedding: expected a SigLIP checkpoint with its pooling head; where its weights are there, set it to true"
            )

    def spec_family(self, checkpoint: Checkpoint) -> str:
        """Return the model type, and the mask where the tokenizer makes one."""
        return f"{self.model_type}+mask" if _masked(checkpoint) else self.model_type

    def image_encoder(self, model: Any) -> PooledProjection:
        """Return the vision model, pooled by attention."""
        return PooledProjection(model.vision_model, nn.Identity())

    def text_tower(self, model: Any, spec: ModelSpec) -> FullTextTower:
        """Return the text model, pooled at its last position."""
        masked = spec.family.endswith("+mask")
        layers = model.text_model.encoder.layers
        layers[-1] = LastLayer(layers[-1], last, alone=not masked)
        return FullTextTower(model.text_model, spec, masked=masked)

    def check_padding(self, checkpoint: Checkpoint) -> None:
        """Refuse padding at the start that the text tower doesn't look at."""
        if _masked(checkpoint):
            check_padding_side(checkpoint)


def _masked(checkpoint: Checkpoint) -> bool:
    """Return true for a tokenizer whose mask transformers gives to the text tower; Google's make none."""
    return "attention_mask" in checkpoint.tokenizer.inputs
