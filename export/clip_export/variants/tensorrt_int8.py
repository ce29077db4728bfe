"""A TensorRT engine with int8 weights and activations, built for the GPU of this machine."""

from __future__ import annotations

from typing import ClassVar

from clip_export.variants.base import Limits
from clip_export.variants.onnx_int8 import LIMITS, OnnxInt8
from clip_export.variants.tensorrt_fp16 import TensorRtFp16


class TensorRtInt8(TensorRtFp16):
    """onnx-int8 -> engine; its nodes say where to quantise."""

    name: ClassVar[str] = "tensorrt-int8"
    limits: ClassVar[Limits] = LIMITS
    tools: ClassVar[tuple[str, ...]] = OnnxInt8.tools
    onnx: ClassVar[str] = OnnxInt8.name
