"""Families of checkpoints: each knows how to describe one and how to load its towers."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clip_client.errors import InvalidInput
from clip_client.spec import ModelSpec
from clip_export.checkpoint import Checkpoint
from clip_export.families import clip

if TYPE_CHECKING:
    from clip_export.towers import Towers


@dataclass(frozen=True)
class Family:
    """What a ``model_type`` of Hugging Face needs to be exported.

    Attributes:
        spec: describe the checkpoint under a name, without loading the weights.
        towers: load the weights as two torch modules.
    """

    spec: Callable[[Checkpoint, str], ModelSpec]
    towers: Callable[[Checkpoint, ModelSpec], Towers]


FAMILIES = {"clip": Family(clip.spec, clip.towers)}


def of(checkpoint: Checkpoint) -> Family:
    """The family of a checkpoint, by its config's ``model_type``.

    Raises:
        InvalidInput: a family that isn't known.
    """
    model_type = str(checkpoint.config.get("model_type"))
    if model_type not in FAMILIES:
        nearest = difflib.get_close_matches(model_type, FAMILIES, n=len(FAMILIES), cutoff=0)
        raise InvalidInput(f"{checkpoint.label} is a {model_type!r} checkpoint, expected one of: {', '.join(nearest)}")
    return FAMILIES[model_type]
