"""Digests of both towers' weights, and the space that a checkpoint's embeddings belong to."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

from torch import nn

from clip_client.errors import InvalidInput
from clip_client.spec import TOWERS, ModelSpec
from clip_export import json_record, memory
from clip_export.artifact_files import TOWERS_RECORD
from clip_export.checkpoints.lineage import LINEAGE, Lineage
from clip_export.towers import Towers


def digest(tower: nn.Module) -> str:
    """Return the SHA-256 over a tower's floating-point tensors, in any order and under any names.

    Libraries rename modules from one version to the next; what they compute with stays.
    """
    each = [
        hashlib.sha256(str(tuple(tensor.shape)).encode() + tensor.detach().cpu().contiguous().numpy().tobytes()).hexdigest()
        for tensor in tower.state_dict().values()
        if tensor.is_floating_point()
    ]
    return hashlib.sha256("".join(sorted(each)).encode()).hexdigest()


def digested(spec: ModelSpec, towers: Towers) -> ModelSpec:
    """Return a spec with the digests of its towers."""
    return dataclasses.replace(spec, image_sha256=digest(towers.image), text_sha256=digest(towers.text))


def known(spec: ModelSpec, load: Callable[[], Towers], folder: Path) -> ModelSpec:
    """Return the same; an earlier export's record in the folder of artefacts saves loading the towers."""
    record = json_record.read(folder / TOWERS_RECORD)
    if record.get("weights") != spec.weights_sha256 or not all(isinstance(record.get(tower), str) for tower in TOWERS):
        towers = load()
        record = {"weights": spec.weights_sha256, **{tower: digest(towers[tower]) for tower in TOWERS}}
        del towers
        memory.give_back()
        json_record.write(folder / TOWERS_RECORD, record)
    return dataclasses.replace(spec, image_sha256=record["image"], text_sha256=record["text"])


def placed(spec: ModelSpec, lineage: Lineage | None, label: str) -> ModelSpec:
    """Return a spec in its parent's space if only the text tower was taught; the image tower's fingerprint is the proof.

    Raises:
        InvalidInput: its lineage says so, and its image tower is another than the parent's.
    """
    if lineage is None or lineage.tower != "text" or not lineage.image_fingerprint:
        return spec
    own = spec.tower_fingerprint("image")
    if own != lineage.image_fingerprint:
        raise InvalidInput(
            f"{label}: {LINEAGE} says that its text tower alone was taught, but its image tower is {own}, the parent's "
            f"{lineage.image_fingerprint}: remove {LINEAGE} to export it as a checkpoint with a space of its own"
        )
    return dataclasses.replace(spec, inherited_space=lineage.space or lineage.fingerprint)
