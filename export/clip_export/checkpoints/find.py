"""Find the checkpoint of ``--model``: the meaning of its name, its files, their layout, its weights."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path

from clip_export.checkpoints import adapter, checkpoint_files, names, open_clip
from clip_export.checkpoints.checkpoint import Checkpoint, Paired
from clip_export.checkpoints.checkpoint_files import Files
from clip_export.checkpoints.companions import image_model
from clip_export.checkpoints.pickles import REFUSED, Pickles
from clip_export.checkpoints.text_modules import ModularCheckpoint


def find(
    model: str,
    revision: str | None,
    text_model: str | None = None,
    pickles: Pickles = REFUSED,
    merged: Path = adapter.MERGED,
) -> Checkpoint:
    """Resolve ``--model``, and ``--text-model`` where it is given.

    Args:
        model: any name of a checkpoint: see ``names``.
        revision: of a hub id.
        text_model: the same, for a text tower beside the model's image tower.
        pickles: conversion of pickled weights; by default they are refused. Its ``say`` gets all lines for the user.
        merged: folder for adapters together with their base.

    Raises:
        InvalidInput: no such folder, no such id, or nothing in it that can be used.
        Unavailable: the hub can't be reached.
    """
    whole = partial(_whole, pickles=pickles, merged=merged)
    checkpoint = whole(model, revision)
    if text_model:
        return Paired.of(checkpoint, whole(text_model, None))
    if image := image_model(checkpoint):
        pickles.say(f"{checkpoint.label} is a text tower: pictures come from {image}, which it was trained for")
        return Paired.of(whole(image, None), checkpoint)
    return checkpoint


def _whole(model: str, revision: str | None, pickles: Pickles, merged: Path) -> Checkpoint:
    """Find a checkpoint; an adapter together with its base."""
    checkpoint = _find(model, revision, pickles)
    if not adapter.is_adapter(checkpoint):
        return checkpoint
    return adapter.with_base(checkpoint, partial(_find, pickles=pickles), merged)


def _find(model: str, revision: str | None, pickles: Pickles) -> Checkpoint:
    meaning = names.meaning(model, revision)
    if meaning.note:
        pickles.say(meaning.note)
    if isinstance(meaning, names.OpenClipName):
        return open_clip.of_tag(meaning.model, meaning.tag, meaning.revision, pickles)
    if isinstance(meaning, names.HubId):
        return _opened(checkpoint_files.on_hub(meaning, pickles), pickles)
    if isinstance(meaning, names.Folder):
        return _opened(checkpoint_files.here(meaning.path, of_open_clip=meaning.open_clip), pickles)
    if meaning.architecture:
        return open_clip.of_file(meaning.path, meaning.architecture, pickles)
    return _opened(checkpoint_files.here(meaning.path.parent, meaning.path.name), pickles)


def _opened(files: Files, pickles: Pickles) -> Checkpoint:
    """Return the checkpoint of files; pickled weights are converted first."""
    layout = files.layout
    if layout.kind == "weights":
        alone = open_clip.of_file(next(iter(files.paths.values())), None, pickles)
        return dataclasses.replace(alone, label=files.label, revision=files.revision) if files.revision else alone
    if renamed := [path for name, path in files.paths.items() if name in layout.weights and path.name != Path(name).name]:
        pickles.say(f"{files.label}: {renamed[0].name} is taken as the model's weights")
    folder = files.folder()
    if layout.pickled:
        folder = pickles.converted(folder / layout.pickled[0], folder)
    if layout.kind == "open_clip":
        return open_clip.in_folder(folder, files.label, files.revision)
    kind = ModularCheckpoint if layout.kind == "sentence_transformers" else Checkpoint
    return kind(folder, files.label, files.revision)
