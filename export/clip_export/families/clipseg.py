"""CLIPs inside of models for other tasks: CLIPSeg's and OWL-ViT's, as Hugging Face stores them."""

from __future__ import annotations

import math
from typing import Any

from clip_client.errors import InvalidInput
from clip_export.checkpoints.checkpoint import Checkpoint
from clip_export.families.clip import Clip
from clip_export.families.hugging_face import parsed, stored


class ClipSeg(Clip):
    """``model_type: clipseg``: OpenAI's CLIP, at the size that its segmentation works at."""

    model_type = "clipseg"
    title = "CLIPSeg"
    classes = ("CLIPSegConfig", "CLIPSegModel")

    def image_side(self, config: dict[str, Any]) -> None:
        """Return None: the image tower interpolates its positions."""

    def logit_scale(self, checkpoint: Checkpoint) -> float:
        """Return the factor on cosines, from a CLIPSegForImageSegmentation as on the hub, or from a CLIPSegModel."""
        return math.exp(float(stored(checkpoint, "clip.logit_scale", "logit_scale")))


class OwlViT(Clip):
    """``model_type: owlvit``: a CLIP whose text tower is read at the largest token."""

    model_type = "owlvit"
    title = "OWL-ViT"
    classes = ("OwlViTConfig", "OwlViTModel")

    def logit_scale(self, checkpoint: Checkpoint) -> float:
        """Return the factor on cosines, from an OwlViTForObjectDetection as on the hub, or from an OwlViTModel."""
        return math.exp(float(stored(checkpoint, "owlvit.logit_scale", "logit_scale")))

    def check_end(self, end_token: int, text: dict[str, Any], checkpoint: Checkpoint) -> None:
        """Accept an end token that is the largest token."""
        if (largest := max(parsed(checkpoint).get_vocab().values())) > end_token:
            raise InvalidInput(
                f"{checkpoint.label}: transformers reads an OWL-ViT's texts at their largest token, which may be one up to "
                f"{largest} beside the end token {end_token}: save the tokenizer that belongs to the weights"
            )
