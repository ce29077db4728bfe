"""Google's SigLIP checkpoints in short: ``SigLIP-B/16-256``, ``siglip2 so400m patch14 384``."""

from __future__ import annotations

import re

_NAME = re.compile(
    r"(?:google\s*[/:\s]\s*)?(?:vit[-_\s])?siglip[-_\s]?(?P<version>[12])?[-_\s](?:vit[-_\s])?"
    r"(?P<size>base|b|large|l|so400m|so|giant-opt|gopt|giant|g)"
    r"(?:[-_/\s](?:patch|p)?[-_]?(?P<patch>14|16|32))?(?:[-_@/\s](?P<pixels>\d{3})(?:px)?)?",
    re.I,
)
_SIZES = {"b": "base", "l": "large", "so": "so400m", "g": "giant-opt", "gopt": "giant-opt", "giant": "giant-opt"}
_BEST_KNOWN = {"base": ("16", "224"), "large": ("16", "256"), "so400m": ("14", "384"), "giant-opt": ("16", "256")}
"""Patch and picture size of each size, where they aren't said."""

_PIXELS = {("base", "32"): "256", ("so400m", "16"): "256"}
"""Picture size where only the patch is said and isn't the best-known."""


def hub_id(text: str) -> str | None:
    """Return the hub id that a SigLIP's short name stands for, whether there is such a one or not; None for another name."""
    name = _NAME.fullmatch(text)
    if name is None:
        return None
    size = _SIZES.get(name["size"].lower(), name["size"].lower())
    patch, pixels = _BEST_KNOWN[size]
    patch = name["patch"] or patch
    pixels = name["pixels"] or _PIXELS.get((size, patch), pixels)
    version = "2" if name["version"] == "2" else ""
    return f"google/siglip{version}-{size}-patch{patch}-{pixels}"
