"""Google's SigLIP 2 NaFlex, which keeps the shape of pictures, as Hugging Face stores it."""

from __future__ import annotations

from typing import Any

from clip_client.errors import InvalidInput
from clip_client.spec import ModelSpec
from clip_export.checkpoints import image_processor
from clip_export.checkpoints.checkpoint import Checkpoint
from clip_export.families.siglip import Siglip
from clip_export.libraries.base import Library
from clip_export.libraries.naflex import NaflexTransformers
from clip_export.towers.naflex_image_tower import NaflexImageTower


class Siglip2(Siglip):
    """``model_type: siglip2``: SigLIP's towers for pictures of any shape. Those of fixed resolution are ``siglip``."""

    model_type = "siglip2"
    title = "SigLIP 2"
    classes = ("Siglip2Config", "Siglip2Model")

    def image_fields(self, checkpoint: Checkpoint, config: dict[str, Any]) -> dict[str, Any]:
        """Return the fields of the image processor, which has to cut pictures into the image tower's patches."""
        self.refuse_headless(checkpoint, config)
        image = image_processor.image_fields(checkpoint.processor, checkpoint.label, patches=True)
        patch = config["vision_config"]["patch_size"]
        if image["patch_size"] != patch:
            raise InvalidInput(
                f"{checkpoint.label}: the processor gives patches of {image['patch_size']} pixels a side, the image tower "
                f"takes those of {patch}: save the processor that belongs to the weights"
            )
        return image

    def image_tower(self, model: Any, spec: ModelSpec) -> NaflexImageTower:
        """Return the vision model with its pooling head."""
        return NaflexImageTower(model.vision_model, spec)

    def library(self, checkpoint: Checkpoint) -> Library:
        """Return transformers for the checkpoint, with nothing loaded yet."""
        return NaflexTransformers(checkpoint.folder, padded=True)
