"""ONNX Runtime: ``model.onnx``, with the thread counts that Triton's native backend documents."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from clip_client.engines import CPU, NAMES, Encoder
from clip_client.errors import InvalidInput
from clip_client.spec import EMBEDDING

_OPTIONS = {"intra_op_thread_count": "intra_op_num_threads", "inter_op_thread_count": "inter_op_num_threads"}
"""Field of ``SessionOptions`` by parameter."""

_SUFFIX = "ExecutionProvider"
_CPU, _CUDA = f"CPU{_SUFFIX}", f"CUDA{_SUFFIX}"
_REMOTE = f"Azure{_SUFFIX}"  # calls other servers; every build lists it


def opened(file: Path, parameters: Mapping[str, str], device: str) -> Encoder:
    """Make a session; what a provider can't run, the CPU's does."""
    options = onnxruntime.SessionOptions()
    for name, option in _OPTIONS.items():
        if name in parameters:
            setattr(options, option, int(parameters[name]))
    provider = resolved(device)
    session = onnxruntime.InferenceSession(file, options, list(dict.fromkeys([provider, _CPU])))
    if provider not in session.get_providers():  # it went back to the CPU, and only its log says why
        raise InvalidInput(f"ONNX Runtime can't use {provider} here, its log says why: pass device={CPU!r}")
    [sent] = session.get_inputs()

    def encode(batch: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        return np.asarray(session.run([EMBEDDING], {sent.name: batch})[0])

    return encode


def resolved(device: str) -> str:
    """Return a device's execution provider: of ``cuda``, ``CUDAExecutionProvider``; ``GPU`` is CUDA, ``AUTO`` CUDA or the CPU.

    Raises:
        InvalidInput: this build of ONNX Runtime has none of that name.
    """
    there = _providers()
    names: dict[str, str] = {name.upper(): name for name in there}
    names |= {name.removesuffix(_SUFFIX).upper(): name for name in there}
    names["AUTO"] = _CUDA if _CUDA in there else _CPU
    if _CUDA in there:
        names["GPU"] = _CUDA
    if device.upper() not in names:
        known = ", ".join(["AUTO", *(name.removesuffix(_SUFFIX) for name in there)])
        raise InvalidInput(f"{NAMES['onnxruntime']} has no device {device!r} here: expected one of {known}")
    return names[device.upper()]


def devices() -> list[str]:
    """Return the devices that this build has a provider for: ``CPU``, ``CUDA``."""
    return [name.removesuffix(_SUFFIX) for name in _providers()]


def _providers() -> list[str]:
    return [name for name in onnxruntime.get_available_providers() if name != _REMOTE]
