"""Registry of the families of checkpoints."""

from __future__ import annotations

import difflib

from clip_client.errors import InvalidInput
from clip_export.checkpoints import refused
from clip_export.checkpoints.checkpoint import Checkpoint, ImagesOnly, Paired
from clip_export.families.aimv2 import Aimv2
from clip_export.families.align import Align
from clip_export.families.altclip import AltClip
from clip_export.families.base import Family
from clip_export.families.chinese_clip import ChineseClip
from clip_export.families.clip import Clip
from clip_export.families.clipseg import ClipSeg, OwlViT
from clip_export.families.flava import Flava
from clip_export.families.groupvit import GroupVit
from clip_export.families.hugging_face import HuggingFace
from clip_export.families.image_only import ImageOnly, VisionOnly
from clip_export.families.metaclip_2 import MetaClip2
from clip_export.families.multilingual import Multilingual
from clip_export.families.open_clip import OpenClip
from clip_export.families.siglip import Siglip
from clip_export.families.siglip2 import Siglip2
from clip_export.families.tipsv2 import TipsV2
from clip_export.families.vision_text_dual_encoder import VisionTextDualEncoder

FAMILIES: dict[str, HuggingFace | OpenClip] = {
    family.model_type: family
    for family in (
        Clip(),
        Siglip(),
        Siglip2(),
        ChineseClip(),
        OpenClip(),
        Aimv2(),
        Align(),
        AltClip(),
        ClipSeg(),
        Flava(),
        GroupVit(),
        MetaClip2(),
        OwlViT(),
        TipsV2(),
        VisionTextDualEncoder(),
    )
}
"""By ``model_type``."""


def of(checkpoint: Checkpoint) -> Family:
    """Return the family of a checkpoint, by its config's ``model_type``; a pair's by that of the image tower.

    Raises:
        InvalidInput: if the family isn't known.
    """
    if isinstance(checkpoint, Paired):
        return Multilingual(of(checkpoint.image))
    if isinstance(checkpoint, ImagesOnly):
        return _image_only(checkpoint)
    model_type = str(checkpoint.config.get("model_type"))
    refused.refuse(checkpoint)
    refused.refuse_one_tower(checkpoint)
    if model_type not in FAMILIES:
        nearest = difflib.get_close_matches(model_type, FAMILIES, n=len(FAMILIES), cutoff=0)
        raise InvalidInput(f"{checkpoint.label} is a {model_type!r} checkpoint, expected one of: {', '.join(nearest)}")
    return FAMILIES[model_type]


def _image_only(checkpoint: ImagesOnly) -> Family:
    """Return the family of an image tower alone."""
    dual = FAMILIES.get(str(checkpoint.config.get("model_type")))
    if isinstance(dual, OpenClip) or type(checkpoint.whole) is not Checkpoint:
        raise InvalidInput(
            f"--image-only is for checkpoints in Hugging Face's format, {checkpoint.label} is none: leave it out"
        )
    return ImageOnly(dual) if dual else VisionOnly()
