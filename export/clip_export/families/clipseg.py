"""CLIPSeg and OWL-ViT: a CLIP inside a model for something else, as Hugging Face stores them."""

from __future__ import annotations

from typing import Any

from clip_client.errors import InvalidInput
from clip_export.checkpoints import image_processor
from clip_export.checkpoints.checkpoint import Checkpoint
from clip_export.families.clip import Clip, largest_token


class ClipSeg(Clip):
    """``model_type: clipseg``: the CLIP of a segmentation model, whose positions are interpolated to its processor's size."""

    model_type = "clipseg"
    title = "CLIPSeg"
    classes = ("CLIPSegConfig", "CLIPSegModel")
    prefix = "clip."

    def image_fields(self, checkpoint: Checkpoint, config: dict[str, Any]) -> dict[str, Any]:
        """Return the image processor's fields, of any size that patches fill."""
        image, patch = (
            image_processor.image_fields(checkpoint.processor, checkpoint.label),
            config["vision_config"]["patch_size"],
        )
        if image["image_size"] < patch:
            raise InvalidInput(
                f"{checkpoint.label}: the processor gives {image['image_size']} pixels a side, a patch has {patch}: save the "
                "processor that belongs to the weights"
            )
        return image


class OwlVit(Clip):
    """``model_type: owlvit``: the CLIP of a detector."""

    model_type = "owlvit"
    title = "OWL-ViT"
    classes = ("OwlViTConfig", "OwlViTModel")
    prefix = "owlvit."

    def check_end(self, end_token: int, text: dict[str, Any], checkpoint: Checkpoint) -> None:
        """Refuse tokens above the end token; transformers reads a text at its largest."""
        if (largest := largest_token(checkpoint)) > end_token:
            raise InvalidInput(
                f"{checkpoint.label}: transformers reads a text at its largest token, which may be one up to {largest} beside "
                f"the end token {end_token}: remove the added tokens"
            )
