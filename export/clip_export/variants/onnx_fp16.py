"""ONNX with weights and arithmetic in float16: for GPUs; a CPU has to convert back and forth."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16

from clip_export import hardware
from clip_export.variants.base import Limits, Source
from clip_export.variants.onnx_fp32 import MODEL_FILE, OnnxFp32, save

_IN_FLOAT32 = ["LayerNormalization", "ReduceL2", "Sub", "Abs", "ReduceMax", "Greater"]
"""LayerNorm and the final length overflow in float16 (65,504); the others compare the void row, which must be exact."""


class OnnxFp16(OnnxFp32):
    """onnx-fp32 -> float16, inputs and output as before."""

    name: ClassVar[str] = "onnx-fp16"
    limits: ClassVar[Limits] = Limits(0.999, 0.999, 0.999)

    def caution(self) -> str:
        return "" if hardware.gpu() else "made for GPUs: a CPU converts to float32 and back"

    def build(self, source: Source, folder: Path) -> None:
        model = onnx.load(source.artefact(OnnxFp32.name) / MODEL_FILE)
        half = convert_float_to_float16(model, keep_io_types=True, op_block_list=_IN_FLOAT32)
        _drop_repeated(half)
        save(half, folder)


def _drop_repeated(model: onnx.ModelProto) -> None:
    """Drop repeated casts: the converter casts a weight once for each node that shares it, under one name."""
    names = [node.name for node in model.graph.node]
    for position in reversed(range(len(names))):
        if names[position] in names[:position]:
            del model.graph.node[position]
