"""Places of a tower's parameters in the weight files of its checkpoint, and new files with changed values there.

A tower holds the parameters of its library's model under other names than the files. A parameter's place is the tensor with its
very values, of several the one whose name is most alike, and that of none is refused. Whoever writes reads again and compares.
"""

from __future__ import annotations

import hashlib
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from clip_client.errors import InvalidInput
from clip_export.checkpoints.checkpoint import Checkpoint


def places(tower: nn.Module, checkpoint: Checkpoint) -> dict[str, str]:
    """Return the name in the files of each of a tower's parameters.

    Raises:
        InvalidInput: if a parameter has no place of its own there.
    """
    stored: dict[str, list[str]] = defaultdict(list)
    for path in checkpoint.weight_files:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  (a safetensors handle isn't a dict)
                stored[_digest(file.get_tensor(name))].append(name)
    candidates = {name: stored.get(_digest(parameter), []) for name, parameter in tower.named_parameters()}
    parts = {names[0].split(".")[0] for names in candidates.values() if len(names) == 1}
    found = {name: _nearest(name, names, parts) for name, names in candidates.items()}
    if missing := [name for name, place in found.items() if not place]:
        raise InvalidInput(
            f"{checkpoint.label}: {missing[0]} of the loaded tower isn't stored as it is computed with, so that it can't be "
            "written back: tune this checkpoint with its own library"
        )
    if twice := len(found) - len({*found.values()}):
        raise InvalidInput(f"{checkpoint.label}: {twice} parameters of the tower can't be told apart in its files")
    return found


def write(checkpoint: Checkpoint, changed: Mapping[str, Tensor], folder: Path) -> None:
    """Write a copy of a checkpoint's folder with changed tensors, each in the precision that it is stored in.

    Args:
        changed: tensors by their names in the files.
        folder: exists, and is empty.
    """
    parent = checkpoint.weight_files[0].parent
    for path in sorted(parent.iterdir()):
        if path.is_file() and path not in checkpoint.weight_files:
            shutil.copyfile(path, folder / path.name)
    for path in checkpoint.weight_files:
        with safe_open(path, framework="pt") as file:
            names, metadata = {*file.keys()}, file.metadata()
        if not names & changed.keys():
            shutil.copyfile(path, folder / path.name)
            continue
        tensors = load_file(path)
        for name in names & changed.keys():
            tensors[name] = changed[name].to(tensors[name].dtype).contiguous()
        save_file(tensors, folder / path.name, metadata)


def _digest(tensor: Tensor) -> str:
    """Return a digest of a tensor's shape and values, whatever their precision."""
    values = tensor.detach().to(torch.float32).contiguous().cpu().numpy()
    return hashlib.sha256(str(values.shape).encode() + values.tobytes()).hexdigest()


def _nearest(name: str, names: Sequence[str], parts: set[str]) -> str:
    """Return the stored name that is most like a parameter's; empty for none."""
    own = [name for name in names if name.split(".")[0] in parts] or list(names)
    return max(own, key=lambda stored: (_likeness(name, stored), stored), default="")


def _likeness(name: str, stored: str) -> int:
    """Return how many parts of two names agree from their ends, without those that wrappers put in."""
    ours, theirs = ([part for part in text.split(".") if part not in ("layer", "model")] for text in (name, stored))
    same = 0
    for mine, other in zip(reversed(ours), reversed(theirs), strict=False):
        if mine != other:
            break
        same += 1
    return same
