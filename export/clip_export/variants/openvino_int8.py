"""OpenVINO's IR with int8 weights and activations."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import openvino
from openvino import opset13 as ops

from clip_export import hardware
from clip_export.variants.base import Limits, Source
from clip_export.variants.onnx_fp32 import MODEL_FILE as ONNX_FILE
from clip_export.variants.onnx_fp32 import OnnxFp32
from clip_export.variants.onnx_int8 import LIMITS, OnnxInt8
from clip_export.variants.openvino_bf16 import BF16
from clip_export.variants.openvino_fp16 import MODEL_FILE, OpenVinoFp16
from clip_export.variants.quantization import RECIPES, Recipe, quantize


class OpenVinoInt8(OpenVinoFp16):
    """ONNX -> OpenVINO -> NNCF. What isn't quantised runs in bfloat16 where the CPU has it, else in float32."""

    name: ClassVar[str] = "openvino-int8"
    limits: ClassVar[Limits] = LIMITS
    parameters: ClassVar[Mapping[str, str]] = BF16 if hardware.has_bf16() else OpenVinoFp16.parameters
    tools: ClassVar[tuple[str, ...]] = (*OpenVinoFp16.tools, "nncf")
    recipes: ClassVar[tuple[Recipe, ...]] = RECIPES

    def caution(self) -> str:
        return OnnxInt8().caution()

    def build(self, source: Source, folder: Path) -> None:
        assert source.recipe  # noqa: S101  (of RECIPES)
        model = openvino.convert_model(source.artefact(OnnxFp32.name) / ONNX_FILE)
        names = [node.get_friendly_name() for node in model.get_ordered_ops()]
        quantized = quantize(model, names, source.calibration(), source.recipe, "mixed")
        _look_up_int8(quantized)
        openvino.save_model(quantized, folder / MODEL_FILE)


def _look_up_int8(model: openvino.Model) -> None:
    """Turn rows of int8 tables to floats after they are looked up: OpenVINO would make a float table of 49,408 tokens first."""
    for lookup in model.get_ordered_ops():
        if lookup.get_type_name() != "Gather" or (table := _int8_table(lookup)) is None:
            continue
        (numbers, scales), (rows, axis) = table, (lookup.input_value(1), lookup.input_value(2))
        floats = ops.convert(ops.gather(numbers, rows, axis), np.float32)
        scaled = ops.multiply(floats, ops.gather(scales, rows, axis))
        scaled.set_friendly_name(lookup.get_friendly_name())
        for reader in lookup.output(0).get_target_inputs():
            reader.replace_source_output(scaled.output(0))


def _int8_table(lookup: openvino.Node) -> tuple[openvino.Output, openvino.Output] | None:
    """Return (numbers int8 [N, W], scales float32 [N, 1]) of a lookup in an int8 table; None for other lookups."""
    product = lookup.input_value(0).get_node()
    if product.get_type_name() != "Multiply" or product.input_value(0).get_node().get_type_name() != "Convert":
        return None
    numbers, scales = product.input_value(0).get_node().input_value(0), product.input_value(1)
    by_row = list(scales.get_shape()) == [numbers.get_shape()[0], 1]
    return (numbers, scales) if numbers.get_element_type() == openvino.Type.i8 and by_row else None
