"""Names of families in short: SigLIP's, as ``SigLIP-B/16-384``; Chinese-CLIP's, as ``CN-CLIP/ViT-B-16``."""

from __future__ import annotations

import re
from collections.abc import Iterable

from clip_export.checkpoints import open_clip_names

_SIGLIP = re.compile(
    r"(?:google\s*[/:\s]\s*)?(?:vit[-_\s])?siglip[-_\s]?(?P<version>[12])?[-_\s](?:vit[-_\s])?"
    r"(?P<size>base|b|large|l|so400m|so|giant-opt|gopt|giant|g)"
    r"(?:[-_/\s](?:patch|p)?[-_]?(?P<patch>14|16|32))?(?:[-_@/\s](?P<pixels>\d{3}|naflex)(?:px)?)?",
    re.I,
)
_SIGLIP_SIZES = {"b": "base", "l": "large", "so": "so400m", "g": "giant-opt", "gopt": "giant-opt", "giant": "giant-opt"}

_CHINESE = re.compile(r"(?:cn|chinese)[-_\s]?clip\s*[-_/:\s]\s*", re.I)
_CHINESE_CLIPS = {
    "ViT-B-16": "OFA-Sys/chinese-clip-vit-base-patch16",
    "ViT-L-14": "OFA-Sys/chinese-clip-vit-large-patch14",
    "ViT-L-14-336": "OFA-Sys/chinese-clip-vit-large-patch14-336px",
    "ViT-H-14": "OFA-Sys/chinese-clip-vit-huge-patch14",
}


def hub_id(text: str, hub_ids: Iterable[str]) -> str | None:
    """Return the hub id that a short name stands for; None if it isn't one.

    Args:
        text: a name.
        hub_ids: known ids, of those of one size the best-known first.
    """
    if chinese := _CHINESE.match(text):
        named = open_clip_names.model_named(text[chinese.end() :])
        return _CHINESE_CLIPS.get(named[0].name) if named else None
    name = _SIGLIP.fullmatch(text)
    return _siglip(name, hub_ids) if name else None


def _siglip(name: re.Match[str], hub_ids: Iterable[str]) -> str | None:
    """Return the first of Google's ids that has all that the name says."""
    version = "2" if name["version"] == "2" else ""
    size = _SIGLIP_SIZES.get(name["size"].lower(), name["size"].lower())
    patch, pixels = name["patch"] or r"\d+", (name["pixels"] or r"\d+").lower()
    wanted = re.compile(f"google/siglip{version}-{size}-patch{patch}-{pixels}")
    return next(filter(wanted.fullmatch, hub_ids), None)
