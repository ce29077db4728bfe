"""OpenVINO's IR with weights stored in float16, computed in float32."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

import openvino

from clip_client import engines
from clip_client.model_repository import MODEL_FILES
from clip_export.variants.base import Artefact, Encoder, Limits, Source, Variant
from clip_export.variants.onnx_fp32 import MODEL_FILE as ONNX_FILE
from clip_export.variants.onnx_fp32 import OnnxFp32

MODEL_FILE, WEIGHTS_FILE = MODEL_FILES["openvino"]
# OpenVINO keeps what it prepared for each shape, 5,000 pieces if nothing is said: memory would grow with every new batch
# size and text length for hours. 256 are as fast. (Its documentation doesn't list the property; the CPU plugin reads it.)
# Our own: lone texts' commonest lengths, each compiled for itself; four of a ViT-B/32's in int8.
ONE_STREAM = {
    "NUM_STREAMS": "1",
    "PERFORMANCE_HINT": "LATENCY",
    "CPU_RUNTIME_CACHE_CAPACITY": "256",
    "FIXED_SHAPES_BYTES": str(320 * 2**20),
}


class OpenVinoFp16(Variant):
    """ONNX -> OpenVINO IR, so that both formats hold the same graph.

    The precision is said outright: left to itself OpenVINO picks bfloat16 where the CPU has it.
    """

    name: ClassVar[str] = "openvino-fp16"
    backend: ClassVar[str | None] = "openvino"
    kind: ClassVar[Literal["KIND_AUTO", "KIND_CPU", "KIND_GPU"]] = "KIND_CPU"
    ragged: ClassVar[bool] = True  # the backend is ours: see clip_inside_triton/backends
    tokenizes: ClassVar[bool] = True
    tells_checksums: ClassVar[bool] = True
    limits: ClassVar[Limits] = Limits(0.999, 0.999, 0.999)
    parameters: ClassVar[Mapping[str, str]] = {**ONE_STREAM, "INFERENCE_PRECISION_HINT": "f32"}
    tools: ClassVar[tuple[str, ...]] = (*OnnxFp32.tools, "openvino")

    def build(self, source: Source, folder: Path) -> None:
        model = openvino.convert_model(source.artefact(OnnxFp32.name) / ONNX_FILE)
        openvino.save_model(model, folder / MODEL_FILE, compress_to_fp16=True)

    def load(self, artefact: Artefact) -> Encoder:
        return engines.opened(str(self.backend), artefact.folder / MODEL_FILE, self.parameters)
