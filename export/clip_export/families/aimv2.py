"""Apple's AIMv2 with a text tower (LiT) as Hugging Face stores it."""

from __future__ import annotations

from typing import Any

from clip_client.errors import InvalidInput
from clip_client.spec import ModelSpec
from clip_export.checkpoints.checkpoint import Checkpoint
from clip_export.families.clip import Clip, refuse_other_end
from clip_export.libraries.base import Library
from clip_export.libraries.hugging_face import Transformers
from clip_export.towers.image_tower import PooledProjection
from clip_export.towers.pooled_layer import LastLayer
from clip_export.towers.pooling import at_end
from clip_export.towers.text_towers import CausalTextTower


class Aimv2(Clip):
    """``model_type: aimv2``: AIMv2's image tower, pooled by attention, and a causal text tower.

    Apple's own text tower is always causal. That of transformers 5 isn't where a text without padding meets sdpa: the mask is
    then left to a flag that isn't set. So the library runs with eager attention.
    """

    model_type = "aimv2"
    title = "AIMv2"
    classes = ("Aimv2Config", "Aimv2Model")

    def image_fields(self, checkpoint: Checkpoint, config: dict[str, Any]) -> dict[str, Any]:
        """Return the image processor's fields; refuse an image tower that has no pooling."""
        if not config["vision_config"]["use_head"]:
            raise InvalidInput(
                f"{checkpoint.label}: config.json has use_head off, without which transformers gives no image embedding: "
                "expected a checkpoint with its pooling head, such as one of LiT"
            )
        return super().image_fields(checkpoint, config)

    def logit_scale(self, checkpoint: Checkpoint) -> float:
        """Return the factor on cosines, which is bounded."""
        return min(max(super().logit_scale(checkpoint), 1.0), float(self.config(checkpoint).max_logit_scale))

    def image_encoder(self, model: Any) -> PooledProjection:
        """Return the vision model, pooled by attention."""
        return PooledProjection(model.vision_model, model.visual_projection)

    def text_tower(self, model: Any, spec: ModelSpec) -> CausalTextTower:
        """Return the text model under a causal mask; its layers have other parts than CLIP's."""
        text = model.text_model
        text.encoder.layers[-1] = LastLayer(text.encoder.layers[-1], at_end, alone=False)
        return CausalTextTower(text, model.text_projection, spec, norm=text.rms_norm)

    def library(self, checkpoint: Checkpoint) -> Library:
        """Return transformers for the checkpoint, with nothing loaded yet."""
        return Transformers(checkpoint.folder, padded=False, attention="eager")

    def check_end(self, end_token: int, text: dict[str, Any], checkpoint: Checkpoint) -> None:
        """Accept the tokenizer's end token only."""
        refuse_other_end(end_token, text, checkpoint)
