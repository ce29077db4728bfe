"""OpenVINO's IR with int8 weights and activations."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import openvino

from clip_export import machine
from clip_export.quantization import RECIPES, quantize
from clip_export.variants.base import Limits, Recipe, Source
from clip_export.variants.onnx_fp32 import MODEL_FILE as ONNX_FILE
from clip_export.variants.onnx_fp32 import OnnxFp32
from clip_export.variants.onnx_int8 import LIMITS, OnnxInt8
from clip_export.variants.openvino_bf16 import BF16
from clip_export.variants.openvino_fp16 import MODEL_FILE, OpenVinoFp16


class OpenVinoInt8(OpenVinoFp16):
    """ONNX -> OpenVINO -> NNCF. What isn't quantised runs in bfloat16 where the CPU has it, else in float32."""

    name: ClassVar[str] = "openvino-int8"
    limits: ClassVar[Limits] = LIMITS
    parameters: ClassVar[Mapping[str, str]] = BF16 if machine.has_bf16() else OpenVinoFp16.parameters
    tools: ClassVar[tuple[str, ...]] = (*OpenVinoFp16.tools, "nncf")
    recipes: ClassVar[tuple[Recipe, ...]] = RECIPES

    def caution(self) -> str:
        return OnnxInt8().caution()

    def build(self, source: Source, folder: Path) -> None:
        assert source.recipe  # noqa: S101  (of RECIPES)
        model = openvino.convert_model(source.artefact(OnnxFp32.name) / ONNX_FILE)
        names = [node.get_friendly_name() for node in model.get_ordered_ops()]
        openvino.save_model(quantize(model, names, source.calibration(), source.recipe, "mixed"), folder / MODEL_FILE)
