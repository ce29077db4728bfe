"""Messages about folders and repositories that hold no checkpoint for PyTorch."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Mapping
from typing import Any

from clip_client.errors import InvalidInput
from clip_export.checkpoints.file_names import ADAPTER_CONFIG, CONFIG, OPEN_CLIP_CONFIG, WEIGHTS

_FORMATS = {
    ".onnx": "ONNX",
    ".gguf": "GGUF (llama.cpp)",
    ".ggml": "GGML",
    ".msgpack": "Flax",
    ".h5": "TensorFlow",
    ".keras": "Keras",
    ".tflite": "TensorFlow Lite",
    ".mlmodel": "Core ML",
    ".mlpackage": "Core ML",
    ".rknn": "RKNN",
    ".engine": "TensorRT",
    ".plan": "TensorRT",
    ".dlc": "Qualcomm's",
    ".ot": "Rust",
}
"""Name of a format by the ending of its files."""

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_SHOWN = 6


def refusal(label: str, names: Collection[str], config: Mapping[str, Any]) -> InvalidInput:
    """Return the error of a tree without a checkpoint: what lies there, what was expected, what to do."""
    formats = sorted({title for name in names if (title := _format(name))})
    if "model_index.json" in names:
        problem = "a pipeline of diffusers, whose text encoder is one tower without its image tower"
        return InvalidInput(f"{label} is {problem}: expected both towers of a CLIP, {_instead(label, config)}")
    if formats:
        examples = listed([name for name in names if _format(name)])
        return InvalidInput(
            f"{label} has weights in {' and '.join(formats)} format only: {examples}; expected PyTorch's: "
            f"{_instead(label, config)}"
        )
    if ADAPTER_CONFIG in names:
        return InvalidInput(f"{label} has an {ADAPTER_CONFIG} without adapter_model.safetensors: {listed(names)}")
    if {CONFIG, OPEN_CLIP_CONFIG} & {*names}:
        return InvalidInput(
            f"{label} has no weights: expected {WEIGHTS}, shards with their index, or a pytorch_model.bin: {listed(names)}"
        )
    return InvalidInput(f"{label} has no {CONFIG} and no weights, it isn't a checkpoint: {listed(names)}")


def listed(names: Collection[str]) -> str:
    """Return the first names for a message."""
    shown = sorted(name for name in names if not posixpath.basename(name).startswith("."))
    if not shown:
        return "it is empty"
    return f"it holds {', '.join(shown[:_SHOWN])}{f' and {len(shown) - _SHOWN} others' if len(shown) > _SHOWN else ''}"


def _format(name: str) -> str:
    endings = (posixpath.splitext(part)[1].lower() for part in name.split("/"))
    return next((_FORMATS[ending] for ending in endings if ending in _FORMATS), "")


def _instead(label: str, config: Mapping[str, Any]) -> str:
    base = str(config.get("_name_or_path", ""))
    if _HUB_ID.fullmatch(base) and base.lower() != label.lower():
        return f"pass the checkpoint that it was made from, --model {base}"
    return "pass the checkpoint that it was made from"
