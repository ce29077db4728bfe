"""Engines that run encoders in this process: one way to open an artefact and to run a batch, for all who do.

Triton's stand-ins, :meth:`clip_client.Clip.local`, the export's judge and the benches open artefacts here, so that a parameter
of a ``config.pbtxt`` means the same to each. An engine's library is imported when the engine is first used.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clip_client import no_telemetry
from clip_client.errors import InvalidInput, Unavailable

no_telemetry.forbid()

Encoder = Callable[[npt.NDArray[Any]], npt.NDArray[np.float32]]
"""pixels uint8 [N, S, S, 3] or tokens int32 [N, L] -> embedding float32 [N, D]; for one caller at a time."""

CPU = "CPU"
"""Device that every engine has."""

NAMES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
"""Name of an engine by that of the Triton backend, which is its module's, too."""

_ELSEWHERE = {
    "tensorrt": "a TensorRT plan runs in the container, on the kind of GPU that it was built for "
    "('docker compose --profile gpu up triton-gpu')"
}


def opened(backend: str, file: Path, parameters: Mapping[str, str], device: str = CPU) -> Encoder:
    """Open an artefact.

    Args:
        backend: name of the Triton backend that runs it.
        file: ``model.onnx``, or ``model.xml`` with ``model.bin`` beside it.
        parameters: of the model's configuration; an engine reads those that it documents.
        device: as the engine calls it, in any case.

    Raises:
        InvalidInput: no engine here runs that backend's artefacts, or there is no such device.
        Unavailable: the engine's package isn't installed.
        Exception: the engine's own, for a file that it can't read.
    """
    encoder: Encoder = _engine(backend).opened(file, parameters, device)
    return encoder


def check(backend: str, device: str) -> None:
    """Raise as :func:`opened` for a backend or a device that can't be had here."""
    _engine(backend).resolved(device)


def devices(backend: str) -> list[str]:
    """Return the devices that an engine has here; raises as :func:`opened` for a backend that can't be had."""
    listed: list[str] = _engine(backend).devices()
    return listed


def _engine(backend: str) -> Any:
    if backend not in NAMES:
        reason = _ELSEWHERE.get(backend, f"backend {backend!r} has no engine")
        raise InvalidInput(f"{reason}: publish a variant of {' or '.join(NAMES.values())} to run it in this process")
    try:
        return importlib.import_module(f"{__name__}.{backend}")
    except ImportError as problem:
        raise Unavailable(
            f"{NAMES[backend]} can't be imported ({problem}): install it with pip install 'clipserve[local]'"
        ) from problem
