"""Files of weights among the names in a folder: safetensors before pickles, and only the model's own."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass

from clip_client.errors import InvalidInput
from clip_export.checkpoints.file_names import (
    OPEN_CLIP_PICKLE,
    OPEN_CLIP_SAFETENSORS,
    PICKLE,
    PICKLE_INDEX,
    PICKLE_SUFFIXES,
    SAFETENSORS,
    SHARD_INDEX,
    WEIGHTS,
)

_SHARD = re.compile(r"-\d{3,}-of-\d{3,}\.\w+$")
_ONE_TOWER = re.compile(r"(^|[-_. ])(te[-_]only|(text|vision|image)[-_]?(encoder|model|tower|only))([-_. ]|$)", re.IGNORECASE)
"""Names of a tower without the other, as diffusion programs want them."""

_NO_MODEL = re.compile(
    r"^(adapter_|training_args|optimizer|scheduler|scaler|rng_state|random_states|ema|trainer_state|pytorch_lora)",
    re.IGNORECASE,
)
"""Beginnings of names of adapters and of the states of a training."""

_HALF = re.compile(r"[-_.](fp16|bf16|f16|half|fp8\w*|int8)[-_.]", re.IGNORECASE)
_OF_TRANSFORMERS = re.compile(r"(^|[-_. ])hf([-_. ]|$)", re.IGNORECASE)


@dataclass(frozen=True)
class Folder:
    """Names in a folder.

    Attributes:
        label: its name in messages.
        address: beginning of a ``--model`` that leads to one of its files.
        names: of the files right inside.
        shards: returns the files that an index names.
    """

    label: str
    address: str
    names: frozenset[str]
    shards: Callable[[str], list[str]]


def hugging_face(folder: Folder) -> dict[str, str]:
    """Return transformers' weights: file by the name that the library expects; empty if there are none.

    Raises:
        InvalidInput: if several files may be the model, or shards are missing.
    """
    if WEIGHTS in folder.names:
        return {WEIGHTS: WEIGHTS}
    if SHARD_INDEX in folder.names:
        return _sharded(folder, SHARD_INDEX)
    if name := _single(folder, _safetensors(folder.names - {*OPEN_CLIP_SAFETENSORS})):
        return {WEIGHTS: name}
    if PICKLE in folder.names:
        return {PICKLE: PICKLE}
    if PICKLE_INDEX in folder.names:
        return _sharded(folder, PICKLE_INDEX)
    name = _single(folder, _pickles(folder.names - {OPEN_CLIP_PICKLE}))
    return {name: name} if name else {}


def open_clip(folder: Folder, of_transformers: bool) -> dict[str, str]:
    """Return open_clip's weights: file by the name that the library expects; empty if there are none.

    Args:
        folder: with an ``open_clip_config.json``.
        of_transformers: files with transformers' names belong to a ``config.json``, or to timm's.

    Raises:
        InvalidInput: if several files may be the model.
    """
    for name in OPEN_CLIP_SAFETENSORS:
        if name in folder.names:
            return {name: name}
    if WEIGHTS in folder.names and OPEN_CLIP_PICKLE not in folder.names:
        return {WEIGHTS: WEIGHTS}
    if name := _single(folder, _safetensors(folder.names - {WEIGHTS})):
        return {OPEN_CLIP_SAFETENSORS[0]: name}
    if OPEN_CLIP_PICKLE in folder.names:
        return {OPEN_CLIP_PICKLE: OPEN_CLIP_PICKLE}
    if name := _single(folder, _pickles(folder.names - ({PICKLE} if of_transformers else set()))):
        return {name: name}
    return {}


def alone(folder: Folder) -> str:
    """Return the only file of weights in a folder without a configuration; empty if there is none.

    Raises:
        InvalidInput: if there are several.
    """
    return _single(folder, _safetensors(folder.names)) or _single(folder, _pickles(folder.names))


def _sharded(folder: Folder, index: str) -> dict[str, str]:
    shards = folder.shards(index)
    if missing := [name for name in shards if name not in folder.names]:
        raise InvalidInput(
            f"{folder.label}: {index} names {len(shards)} files, of which {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'}n't there: get the missing ones too"
        )
    return {index: index, **{name: name for name in shards}}


def _single(folder: Folder, names: Collection[str]) -> str:
    """Return the model among files of weights; empty where there is none."""
    if shards := sorted(name for name in names if _SHARD.search(name)):
        raise InvalidInput(
            f"{folder.label} has {', '.join(shards[:3])}{' …' if len(shards) > 3 else ''} without an index: expected "
            f"{SHARD_INDEX} beside them, as save_pretrained writes it"
        )
    left = sorted(names)
    for drop in (_ONE_TOWER.search, _HALF.search, lambda name: not _OF_TRANSFORMERS.search(name)):
        left = [name for name in left if not drop(name)] or left
    if len(left) > 1:
        raise InvalidInput(
            f"{folder.label} has {len(left)} files that may be the model: {', '.join(left)}: choose one with "
            f"--model {folder.address}/{left[0]}"
        )
    return left[0] if left else ""


def _safetensors(names: Collection[str]) -> list[str]:
    return [name for name in names if name.endswith(SAFETENSORS) and not _NO_MODEL.search(name)]


def _pickles(names: Collection[str]) -> list[str]:
    return [name for name in names if name.endswith(PICKLE_SUFFIXES) and not _NO_MODEL.search(name)]
