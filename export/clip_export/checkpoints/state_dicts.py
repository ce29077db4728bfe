"""State dicts out of pickles, read without running anything in them, and written as safetensors.

Part of the confined process: :mod:`clip_export.checkpoints.pickle_reader`.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from clip_export.checkpoints import torch_archive
from clip_export.checkpoints.pickle_rules import Refused, output_bytes
from clip_export.checkpoints.torch_archive import LeftOut

_WRAPPED = ("state_dict", "model_state_dict", "model")
"""Keys of training checkpoints: open_clip's and Lightning's, torch's own examples', others'."""

_WRAPPERS = ("module.", "_orig_mod.")
"""Beginnings of every name that DataParallel and torch.compile add."""

_LIGHTNING = "pytorch-lightning_version"
_SUBMODEL = "model."  # the model in a training module of Lightning's

_NUMPY = ("numpy.dtype", "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
"""Globals of numpy's scalars, which training loops keep beside the weights."""

_DTYPES = frozenset({
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.bool, torch.uint16, torch.uint32, torch.uint64,
})  # fmt: skip
"""Types of tensors that every version of safetensors holds."""

_ASKED = re.compile(r"GLOBAL (\S+) (?:was not an allowed global|whose module \S+ is blocked)")
_CALLED = re.compile(r"reduce for unrecognized function (.+)")


def convert(files: Sequence[Path], output: Path) -> list[str]:
    """Write the state dict of one model, in one file or several, as safetensors; return notes on what was left out.

    Raises:
        Refused: if it holds anything but weights, or far more of them than the files have bytes.
    """
    tensors: dict[str, Tensor] = {}
    notes: list[str] = []
    for file in files:
        content, told = state_dict(read(file))
        if repeated := sorted(tensors.keys() & content.keys()):
            raise Refused(f"{repeated[0]} is in two of its files: download them again")
        tensors |= content
        notes += told
    for name, tensor in tensors.items():
        _check(name, tensor)
    most = output_bytes(sum(file.stat().st_size for file in files))
    if (claimed := sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())) > most:
        raise Refused(f"its tensors claim {claimed:,} bytes, expected {most:,} at most from files of this size: is it a bomb?")
    save_file(_separate(tensors), output, metadata={"format": "pt"})
    return notes


def read(file: Path) -> Any:
    """Return the content of a file of torch's, with nothing in it that isn't weights, numbers and texts.

    Raises:
        Refused: if it asks for anything else, with the name of it.
    """
    with warnings.catch_warnings(action="ignore"), torch.serialization.safe_globals([(LeftOut, name) for name in _NUMPY]):
        try:
            if not torch_archive.is_zip(file):
                return torch.load(file, map_location="cpu", weights_only=True)
            if torch_archive.is_script(file):
                return torch_archive.script_state_dict(file)
            return torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        except UnpicklingError as problem:
            raise Refused(_asked_for(str(problem))) from problem


def state_dict(content: Any) -> tuple[dict[str, Tensor], list[str]]:
    """Return the tensors by the model's own names, without a trainer's wrapping, and notes on what else there was.

    Raises:
        Refused: if there are none.
    """
    wrapped = isinstance(content, Mapping) and next((key for key in _WRAPPED if isinstance(content.get(key), Mapping)), None)
    inner = content[wrapped] if wrapped else content
    if not isinstance(inner, Mapping):
        raise Refused(f"it holds a {type(inner).__name__}, expected tensors by name: save model.state_dict()")
    tensors = {name: value for name, value in inner.items() if isinstance(value, Tensor)}
    if not tensors or not all(isinstance(name, str) for name in tensors):
        held = ", ".join(map(str, [*inner][:5])) or "nothing"
        raise Refused(f"it holds {held}, expected tensors by name: save model.state_dict()")
    notes = [f"{name} is no tensor and is left out" for name in inner if name not in tensors]
    if wrapped and _LIGHTNING in content and (own := [name for name in tensors if name.startswith(_SUBMODEL)]):
        notes += [f"{name} isn't of the model and is left out" for name in tensors if name not in own]
        tensors = {name: tensors[name] for name in own}
    return _unwrapped(tensors, (*_WRAPPERS, _SUBMODEL) if wrapped else _WRAPPERS), notes


def _unwrapped(tensors: dict[str, Tensor], wrappers: Sequence[str]) -> dict[str, Tensor]:
    """Take off beginnings that all names have."""
    for wrapper in wrappers:
        if all(name.startswith(wrapper) for name in tensors):
            return _unwrapped({name.removeprefix(wrapper): tensor for name, tensor in tensors.items()}, wrappers)
    return tensors


def _check(name: str, tensor: Tensor) -> None:
    kind = next((kind for kind in ("nested", "quantized") if getattr(tensor, f"is_{kind}")), "")
    kind = kind or ("" if tensor.layout is torch.strided else str(tensor.layout)) or ("meta" if tensor.is_meta else "")
    if kind or tensor.dtype not in _DTYPES:
        raise Refused(f"{name} is {kind or tensor.dtype}, expected numbers as they were trained: save model.state_dict() again")
    if name == "__metadata__":
        raise Refused(f"a tensor is named {name}, which safetensors keeps for itself: rename it")


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the same numbers, each name with memory of its own, since safetensors has no tied tensors and no views."""
    seen: set[int] = set()
    separate = {}
    for name, tensor in tensors.items():
        plain = tensor.detach().resolve_conj().resolve_neg()
        place = plain.untyped_storage().data_ptr()
        separate[name] = plain.clone(memory_format=torch.contiguous_format) if place in seen else plain.contiguous()
        seen.add(place)
    return separate


def _asked_for(message: str) -> str:
    """Turn torch's page of advice into one line with the name of the global."""
    if asked := _ASKED.search(message) or _CALLED.search(message):
        return (
            f"it asks for {asked[1]}, which weights alone don't need and which could run code: nothing of it was run; save "
            "model.state_dict() where you trust the file, or look for safetensors"
        )
    last = [line.strip() for line in message.splitlines() if line.strip()]
    reason = next((line for line in reversed(last) if "https://" not in line), "")
    return f"it isn't a pickle of weights ({reason[:200]}): is the file whole?"
