"""Registry of the families of checkpoints."""

from __future__ import annotations

import difflib

from clip_client.errors import InvalidInput
from clip_export.checkpoints.checkpoint import Checkpoint, Paired
from clip_export.families.aimv2 import Aimv2
from clip_export.families.align import Align
from clip_export.families.altclip import AltClip
from clip_export.families.base import Family
from clip_export.families.chinese_clip import ChineseClip
from clip_export.families.clip import Clip
from clip_export.families.clipseg import ClipSeg, OwlVit
from clip_export.families.groupvit import GroupVit
from clip_export.families.hugging_face import HuggingFace
from clip_export.families.metaclip_2 import MetaClip2
from clip_export.families.multilingual import Multilingual
from clip_export.families.open_clip import OpenClip
from clip_export.families.siglip import Siglip
from clip_export.families.siglip2 import Siglip2

FAMILIES: dict[str, HuggingFace | OpenClip] = {
    family.model_type: family
    for family in (
        Clip(),
        Siglip(),
        Siglip2(),
        ChineseClip(),
        AltClip(),
        MetaClip2(),
        GroupVit(),
        Aimv2(),
        Align(),
        ClipSeg(),
        OwlVit(),
        OpenClip(),
    )
}
"""By ``model_type``."""

_OTHERS = {
    "blip": "of which transformers gives captions, or a score for a picture and a text together, and no embeddings of a pair",
    "blip-2": "of which transformers gives captions, or several vectors for a picture",
    "owlv2": "whose processor pads pictures in a way of its own",
    "x_clip": "for videos",
    "clap": "for sound",
}
"""Types of transformers that look like pairs of towers for pictures and texts, and the reason that they aren't."""


def of(checkpoint: Checkpoint) -> Family:
    """Return the family of a checkpoint, by its config's ``model_type``; a pair's by that of the image tower.

    Raises:
        InvalidInput: if the family isn't known.
    """
    if isinstance(checkpoint, Paired):
        return Multilingual(of(checkpoint.image))
    model_type = str(checkpoint.config.get("model_type"))
    if model_type in _OTHERS:
        raise InvalidInput(
            f"{checkpoint.label} is a {model_type!r} checkpoint, {_OTHERS[model_type]}: expected an image and a text tower, "
            "such as google/siglip2-base-patch16-224"
        )
    if model_type not in FAMILIES:
        nearest = difflib.get_close_matches(model_type, FAMILIES, n=len(FAMILIES), cutoff=0)
        raise InvalidInput(f"{checkpoint.label} is a {model_type!r} checkpoint, expected one of: {', '.join(nearest)}")
    return FAMILIES[model_type]
