"""Adapter checkpoints: their base, and the folder of both together that everything else takes as the checkpoint's."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from clip_client.errors import InvalidInput
from clip_export import json_record
from clip_export.checkpoints.checkpoint import Checkpoint, digest
from clip_export.checkpoints.file_names import CONFIG, INDEX, MERGED_FROM, SETTINGS, SHARDS, WEIGHTS
from clip_export.checkpoints.lora import Lora
from clip_export.checkpoints.refused import refuse
from clip_export.library_errors import reading

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
MERGED = Path("artifacts") / "merged"
"""Folder of merged checkpoints, by default in the current one."""

_VERSION = b"1"  # of the merging; another gives other folders


def is_adapter(checkpoint: Checkpoint) -> bool:
    """Tell an adapter from a whole checkpoint.

    Raises:
        InvalidInput: if it is both, which transformers loads as one or as the other, with peft or without.
    """
    folder = checkpoint.folder
    if not (folder / ADAPTER_CONFIG).exists():
        return False
    if (folder / WEIGHTS).exists() or any(folder.glob(SHARDS)):
        raise InvalidInput(
            f"{checkpoint.label} has whole weights and an adapter ({ADAPTER_CONFIG}), expected one of them: pass a folder with "
            "the adapter's files alone, or without them"
        )
    return True


def with_base(adapter: Checkpoint, find: Callable[[str, str | None], Checkpoint], merged: Path = MERGED) -> Checkpoint:
    """Merge an adapter into the base that it names, once for each content of both.

    Args:
        adapter: its folder, with no whole weights.
        find: finds the base by its name and revision.
        merged: folder to keep the result in.

    Raises:
        InvalidInput: if the adapter can't be followed, or isn't of this base.
        Unavailable: if the base can't be fetched.
    """
    settings = adapter.json(ADAPTER_CONFIG, "expected an adapter of peft")
    with reading(adapter.label, "its adapter"):
        lora = Lora(adapter.label, settings, _tensors(adapter))
        lora.check()
    base = _base(adapter, settings, find)
    folder = merged / _key(adapter, base)
    if not (folder / WEIGHTS).exists():
        _write(lora, adapter, base, folder)
    json_record.write(folder / MERGED_FROM, {"base": str(base.folder.resolve()), "adapter": str(adapter.folder.resolve())})
    return Checkpoint(folder, adapter.label, "+".join(filter(None, (adapter.revision, base.revision))))


def _tensors(adapter: Checkpoint) -> dict[str, Any]:
    file = adapter.folder / ADAPTER_WEIGHTS
    if not file.exists():
        raise InvalidInput(
            f"{adapter.label} is an adapter without {ADAPTER_WEIGHTS}; a pickled adapter_model.bin, which can run code, isn't "
            "loaded: convert it where you trust it, save_pretrained(FOLDER) of peft"
        )
    return load_file(file)


def _base(adapter: Checkpoint, settings: dict[str, Any], find: Callable[[str, str | None], Checkpoint]) -> Checkpoint:
    name, revision = settings.get("base_model_name_or_path"), settings.get("revision")
    if not isinstance(name, str) or not name:
        raise InvalidInput(
            f"{adapter.label}: adapter_config.json has the base_model_name_or_path {name!r}, expected the folder or hub id of "
            "the checkpoint that it was trained on: write it there"
        )
    try:
        base = find(name, None if Path(name).is_dir() else revision)
    except InvalidInput as problem:
        raise InvalidInput(
            f"{adapter.label} is an adapter of {name}: {problem}; set base_model_name_or_path to it"
        ) from problem
    if type(base) is not Checkpoint:
        raise InvalidInput(f"{adapter.label} is an adapter of {name}, expected a base in Hugging Face's format")
    if is_adapter(base):
        raise InvalidInput(f"{adapter.label} is an adapter of {base.label}, which is an adapter itself: merge that one first")
    refuse(base)
    return base


def _key(adapter: Checkpoint, base: Checkpoint) -> str:
    settings = [file for part in (base, adapter) for file in _settings(part.folder)]
    files = [adapter.folder / ADAPTER_CONFIG, adapter.folder / ADAPTER_WEIGHTS, *base.weight_files, *settings]
    names = " ".join(file.name for file in files).encode()
    return hashlib.sha256(_VERSION + names + digest(files).encode()).hexdigest()[:16]


def _settings(folder: Path) -> list[Path]:
    """Return the small files of a folder; an index of weights isn't one of them."""
    return sorted(path for path in folder.iterdir() if path.suffix in SETTINGS and not path.name.endswith(INDEX))


def _write(lora: Lora, adapter: Checkpoint, base: Checkpoint, folder: Path) -> None:
    """Write the merged weights beside the base's settings and the adapter's own tokenizer, whole or not at all."""
    with reading(adapter.label, "its adapter or its base"):
        weights = {name: tensor for file in base.weight_files for name, tensor in load_file(file).items()}
        merged = {name: tensor.contiguous() for name, tensor in lora.merged(weights).items()}
    own = [path for path in _settings(adapter.folder) if path.name not in (ADAPTER_CONFIG, CONFIG)]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".merging-") as scratch:
            made = Path(scratch) / "whole"
            made.mkdir()
            for path in (*_settings(base.folder), *own):
                shutil.copyfile(path, made / path.name)
            save_file(merged, made / WEIGHTS, metadata={"format": "pt"})
            _place(made, folder)
    except OSError as problem:
        raise InvalidInput(f"{adapter.label}: the merged weights can't be written to {folder.parent} ({problem})") from problem


def _place(made: Path, folder: Path) -> None:
    """Move a folder to its place, unless another export was there first."""
    try:
        made.rename(folder)
    except OSError:
        if not (folder / WEIGHTS).exists():
            raise
