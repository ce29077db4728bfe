"""OpenVINO: ``model.xml`` and ``model.bin``, with OpenVINO's own properties as parameters."""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino

from clip_client.cores import cores
from clip_client.engines import CPU, NAMES, Encoder
from clip_client.engines.fixed_shapes import FixedShapes, Shape
from clip_client.errors import InvalidInput
from clip_client.spec import EMBEDDING

_PROPERTIES = (
    "NUM_STREAMS",
    "PERFORMANCE_HINT",
    "INFERENCE_PRECISION_HINT",
    "INFERENCE_NUM_THREADS",
    "COMPILATION_NUM_THREADS",
    "CPU_RUNTIME_CACHE_CAPACITY",
)
"""Parameters that are handed to the CPU's plugin."""

_VIRTUAL = ("AUTO", "HETERO", "MULTI")
"""Devices that choose among others: ``AUTO``, ``AUTO:GPU,CPU``, ``AUTO:-GPU``, ``HETERO:GPU,CPU``."""


_FIXED_SHAPES_BYTES = "FIXED_SHAPES_BYTES"
"""Parameter of ours: memory for lone texts' commonest lengths, each compiled by itself; none if it is absent."""

_COPY = 4 / 3
"""Memory of a compiled model by the bytes of its file; measured on text towers in int8: 1.31."""


def opened(file: Path, parameters: Mapping[str, str], device: str) -> Encoder:
    """Compile the model, and run it once, so that its file can be let go."""
    name, core = resolved(device), openvino.Core()
    properties = _for_device(core, name, _unbound(plugin_properties(parameters)))
    every = _request(core, file, name, properties)
    budget_bytes = int(parameters.get(_FIXED_SHAPES_BYTES, 0)) if name == CPU else 0
    most = int(budget_bytes / (_COPY * file.with_suffix(".bin").stat().st_size))
    fixed = FixedShapes(lambda shape: _request(core, file, name, properties, shape), most)

    def encode(batch: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        return np.array((fixed.request(batch.shape) or every).infer([batch])[EMBEDDING])

    return encode


def plugin_properties(parameters: Mapping[str, str]) -> dict[str, str]:
    """Return those of a model's parameters that OpenVINO itself understands."""
    return {name: parameters[name] for name in _PROPERTIES if name in parameters}


def _request(core: openvino.Core, file: Path, device: str, properties: Mapping[str, Any], shape: Shape | None = None) -> Any:
    """Compile a model for all shapes or for one; run it once, at which it copies its weights, and let its file go."""
    model = core.read_model(file)
    if shape:
        model.reshape(list(shape))
    request = core.compile_model(model, device, dict(properties)).create_infer_request()
    request.infer([np.zeros(shape or _smallest(port), port.element_type.to_dtype()) for port in request.model_inputs])
    _unload(file.with_suffix(".bin"))
    return request


def resolved(device: str) -> str:
    """Return a device as OpenVINO spells it: ``CPU``, ``GPU.1``, ``AUTO``, ``HETERO:GPU,CPU``.

    Raises:
        InvalidInput: this machine has none of that name.
    """
    there = openvino.Core().available_devices
    name = device.upper()
    virtual, _, members = name.partition(":")
    listed = members.split(",") if members else [] if name == "AUTO" else [name]
    known = {*there, *(device.partition(".")[0] for device in there)}  # GPU stands for GPU.0
    if (members and virtual not in _VIRTUAL) or any(member.strip().removeprefix("-") not in known for member in listed):
        choice = ", ".join(["AUTO", *there])
        raise InvalidInput(f"{NAMES['openvino']} has no device {device!r} here: expected one of {choice}")
    return name


def devices() -> list[str]:
    """Return the devices of this machine that have a plugin, each with its full name: ``CPU (AMD EPYC 9R14)``."""
    core = openvino.Core()
    return [f"{name} ({core.get_property(name, 'FULL_DEVICE_NAME')})" for name in core.available_devices]


def _unbound(properties: Mapping[str, str]) -> dict[str, str]:
    """Return properties with which a share of the cores may be any: or every process binds its threads to the first ones."""
    is_share = 0 < int(properties.get("INFERENCE_NUM_THREADS", 0)) < cores()
    return {**properties, "ENABLE_CPU_PINNING": "NO"} if is_share else dict(properties)


def _for_device(core: openvino.Core, device: str, properties: Mapping[str, str]) -> dict[str, Any]:
    """Return the properties that a device takes: the CPU all of them, also behind AUTO and its like; others those they know."""
    if device == CPU:
        return dict(properties)
    if device.partition(":")[0] in _VIRTUAL:
        return {"DEVICE_PROPERTIES": {CPU: dict(properties)}} if CPU in core.available_devices else {}
    known = core.get_property(device, "SUPPORTED_PROPERTIES")
    return {name: value for name, value in properties.items() if name in known and value != "bf16"}  # no GPU computes in that


def _smallest(port: Any) -> list[int]:
    """Return a shape that an input accepts, with 1 for dynamic sides."""
    return [size.min_length or 1 for size in port.partial_shape]


def _unload(file: Path) -> None:
    """Free the pages of a mapped file: at the first inference OpenVINO has copied its weights, and would keep both copies.

    Pages that are read again come from the file. Only Linux tells where a file is mapped; elsewhere both copies stay.
    """
    if sys.platform != "linux":
        return
    libc, maps = ctypes.CDLL(None), Path("/proc/self/maps")
    for line in maps.read_text(encoding="utf-8", errors="surrogateescape").splitlines() if maps.exists() else ():
        if line.endswith(f" {file.resolve()}"):
            start, end = (int(address, 16) for address in line.split()[0].split("-"))
            libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_DONTNEED)
