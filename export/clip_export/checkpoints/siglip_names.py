"""Google's SigLIP checkpoints in short: ``SigLIP-B/16-384``, ``siglip2 so400m patch14 384``."""

from __future__ import annotations

import re
from collections.abc import Iterable

_NAME = re.compile(
    r"(?:google\s*[/:\s]\s*)?(?:vit[-_\s])?siglip[-_\s]?(?P<version>[12])?[-_\s](?:vit[-_\s])?"
    r"(?P<size>base|b|large|l|so400m|so|giant-opt|gopt|giant|g)"
    r"(?:[-_/\s](?:patch|p)?[-_]?(?P<patch>14|16|32))?(?:[-_@/\s](?P<pixels>\d{3}|naflex)(?:px)?)?",
    re.I,
)
_SIZES = {"b": "base", "l": "large", "so": "so400m", "g": "giant-opt", "gopt": "giant-opt", "giant": "giant-opt"}


def hub_id(text: str, hub_ids: Iterable[str]) -> str | None:
    """Return the hub id that a SigLIP's short name stands for; the first of those that have all that it says.

    Args:
        text: a name.
        hub_ids: known ids, of those of one size the best-known first.
    """
    name = _NAME.fullmatch(text)
    if name is None:
        return None
    version = "2" if name["version"] == "2" else ""
    size = _SIZES.get(name["size"].lower(), name["size"].lower())
    patch, pixels = name["patch"] or r"\d+", (name["pixels"] or r"\d+").lower()
    wanted = re.compile(f"google/siglip{version}-{size}-patch{patch}-{pixels}")
    return next(filter(wanted.fullmatch, hub_ids), None)
