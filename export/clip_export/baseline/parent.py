"""Parent of a changed checkpoint: found as ``--model`` is, or opened from artefacts or a model repository in float32."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import nn

from clip_client.errors import InvalidInput
from clip_client.library_errors import one_line
from clip_client.model_repository import VERSION, encoder, preparer
from clip_client.spec import SPEC_FILE, TOKENIZER_FILE, TOWERS, ModelSpec, Tower
from clip_export import families, json_record, memory
from clip_export.artifact_files import BUILD_RECORD
from clip_export.baseline.models import Model, in_torch
from clip_export.builds import tower_digests
from clip_export.checkpoints import lineage
from clip_export.checkpoints.find import find
from clip_export.checkpoints.local_paths import expanded
from clip_export.checkpoints.pickles import Pickles
from clip_export.variants import REFERENCE, named
from clip_export.variants.base import Artefact, Encoder

_FLOAT = "onnx-fp32"
"""Variant of artefacts that stands for PyTorch: the gate holds it to a cosine of 0.9999."""


@dataclass(frozen=True)
class Parent:
    """A checkpoint that another is judged against.

    Attributes:
        model: its towers.
        reference: variant that runs them.
    """

    model: Model
    reference: str


def opened(name: str, published_as: str, tokenizer_json: str, pickles: Pickles, merged: Path) -> Parent:
    """Open ``--baseline``.

    Args:
        name: a folder of artefacts, a model repository, or any name of a checkpoint.
        published_as: name of the models in a repository.
        tokenizer_json: of the checkpoint that is judged; artefacts have none of their own.
        pickles: conversion of pickled weights.
        merged: folder for adapters together with their base.

    Raises:
        InvalidInput: if it is none of these, or has no float32 variant.
        Unavailable: if the hub can't be reached.
    """
    folder = expanded(name)
    if (folder / encoder(published_as, "image")).is_dir():
        places = {tower: folder / encoder(published_as, tower) / VERSION for tower in TOWERS}
        tokenizer = folder / preparer(published_as, "text") / VERSION / TOKENIZER_FILE
        return _of_artefacts(name, places, tokenizer.read_text(encoding="utf-8") if tokenizer.is_file() else "")
    if (folder / _FLOAT).is_dir() or (folder / REFERENCE.name).is_dir():
        return _of_artefacts(name, {tower: folder / _FLOAT / tower for tower in TOWERS}, tokenizer_json)
    checkpoint = find(name, None, None, pickles, merged)
    family = families.of(checkpoint)
    plain = family.spec(checkpoint, published_as)
    load = partial(family.towers, checkpoint, plain)
    spec = tower_digests.placed(tower_digests.digested(plain, load()), lineage.read(checkpoint.folder), checkpoint.label)
    memory.give_back()
    return Parent(in_torch(spec, checkpoint.tokenizer_json, load), REFERENCE.name)


def _of_artefacts(name: str, places: dict[Tower, Path], tokenizer_json: str) -> Parent:
    """Open both towers of built artefacts."""
    for tower, place in places.items():
        variant = json_record.read(place / BUILD_RECORD).get("variant")
        if variant != _FLOAT:
            has = f"has {variant} of the {tower} tower" if variant else f"has no {_FLOAT} of the {tower} tower"
            raise InvalidInput(
                f"--baseline {name} {has}: both models are judged in float32, so pass the checkpoint itself, or a folder of "
                f"artefacts with {_FLOAT}"
            )
    try:
        spec = ModelSpec.load(places["text"] / SPEC_FILE)
    except OSError as problem:
        raise InvalidInput(f"--baseline {name} can't be read ({problem}): pass the checkpoint itself") from problem

    if hashlib.sha256(tokenizer_json.encode()).hexdigest() != spec.tokenizer_sha256:
        raise InvalidInput(
            f"--baseline {name} was made with another tokenizer than the checkpoint: pass the baseline's checkpoint itself"
        )

    def encode(tower: Tower) -> Encoder:
        try:
            return named(_FLOAT).load(Artefact(places[tower], tower, lambda: _no_module(name)))
        except Exception as problem:  # of an engine, on a file that may be half of one
            raise InvalidInput(
                f"--baseline {name} can't be opened ({one_line(problem)}): pass the checkpoint itself"
            ) from problem

    return Parent(Model(spec, tokenizer_json, encode), _FLOAT)


def _no_module(name: str) -> nn.Module:
    raise InvalidInput(f"--baseline {name} has no weights for PyTorch: pass the checkpoint itself")
