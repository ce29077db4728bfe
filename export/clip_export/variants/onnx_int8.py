"""ONNX with int8 weights and activations (QuantizeLinear and DequantizeLinear nodes)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import onnx

from clip_export import hardware
from clip_export.variants.base import Limits, Source
from clip_export.variants.onnx_fp32 import MODEL_FILE, OnnxFp32, save
from clip_export.variants.quantization import RECIPES, Recipe, quantize

LIMITS = Limits(cosine_min=0.9, cosine_mean=0.98, invariance=0.99)


class OnnxInt8(OnnxFp32):
    """onnx-fp32 -> NNCF; symmetric, as TensorRT takes nothing else."""

    name: ClassVar[str] = "onnx-int8"
    limits: ClassVar[Limits] = LIMITS
    tools: ClassVar[tuple[str, ...]] = (*OnnxFp32.tools, "nncf")
    recipes: ClassVar[tuple[Recipe, ...]] = RECIPES

    def caution(self) -> str:
        return "" if hardware.has_int8() else "this CPU has neither VNNI nor AMX: int8 may be slower, as measured"

    def build(self, source: Source, folder: Path) -> None:
        assert source.recipe  # noqa: S101  (of RECIPES)
        model = onnx.load(source.artefact(OnnxFp32.name) / MODEL_FILE)
        (name,) = (entry.name for entry in model.graph.input)
        items = [{name: item} for item in source.calibration()]
        save(quantize(model, [node.name for node in model.graph.node], items, source.recipe, "performance"), folder)
