"""Registry of the variants: each turns a tower into an artefact, runs it, and configures Triton for it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from clip_client.errors import InvalidInput
from clip_export.variants.base import Variant
from clip_export.variants.onnx_fp16 import OnnxFp16
from clip_export.variants.onnx_fp32 import OnnxFp32
from clip_export.variants.onnx_int8 import OnnxInt8
from clip_export.variants.openvino_bf16 import OpenVinoBf16
from clip_export.variants.openvino_fp16 import OpenVinoFp16
from clip_export.variants.openvino_int8 import OpenVinoInt8
from clip_export.variants.openvino_int8_merged import OpenVinoInt8Merged
from clip_export.variants.tensorrt_fp16 import TensorRtFp16
from clip_export.variants.tensorrt_int8 import TensorRtInt8
from clip_export.variants.torch_bf16 import TorchBf16
from clip_export.variants.torch_compile import TorchCompile
from clip_export.variants.torch_fp32 import TorchFp32

REFERENCE = TorchFp32()
"""Reference for all others; always built."""

VARIANTS: dict[str, Variant] = {
    variant.name: variant
    for variant in (
        REFERENCE,
        TorchBf16(),
        TorchCompile(),
        OnnxFp32(),
        OnnxFp16(),
        OnnxInt8(),
        OpenVinoFp16(),
        OpenVinoBf16(),
        OpenVinoInt8(),
        OpenVinoInt8Merged(),
        TensorRtFp16(),
        TensorRtInt8(),
    )
}

ALL = "all"
DEFAULT = "onnx-fp32,openvino-fp16,openvino-bf16,openvino-int8"
"""Useful variants on most machines; a GPU's owner adds TensorRT."""


def named(name: str, also: Iterable[str] = ()) -> Variant:
    """Return the variant of that name.

    Raises:
        InvalidInput: if there is none; the message lists the known names, and the words that may stand for them, nearest first.
    """
    if name not in VARIANTS:
        known = [*VARIANTS, *also]
        nearest = difflib.get_close_matches(name, known, n=len(known), cutoff=0)
        raise InvalidInput(f"no variant {name!r}, expected one of: {', '.join(nearest)}")
    return VARIANTS[name]


def listed(names: str) -> list[Variant]:
    """Return the variants of a comma-separated list, or all; the reference comes first and needn't be named.

    Raises:
        InvalidInput: if one isn't known.
    """
    if names == ALL:
        return list(VARIANTS.values())
    chosen = [named(name.strip(), also=[ALL]) for name in names.split(",")]
    return list(dict.fromkeys([REFERENCE, *chosen]))
