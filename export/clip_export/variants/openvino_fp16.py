"""OpenVINO's IR with weights stored in float16."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import openvino

from clip_client.spec import EMBEDDING
from clip_export.variants.base import Encoder, Source, Variant
from clip_export.variants.onnx_fp32 import OnnxFp32

MODEL_FILE = "model.xml"


class OpenVinoFp16(Variant):
    """ONNX -> OpenVINO IR, so that both formats hold the same graph."""

    name: ClassVar[str] = "openvino-fp16"
    backend: ClassVar[str] = "openvino"
    kind: ClassVar[Literal["KIND_AUTO", "KIND_CPU"]] = "KIND_CPU"
    limit: ClassVar[float] = 0.999
    parameters: ClassVar[Mapping[str, str]] = {"NUM_STREAMS": "1", "PERFORMANCE_HINT": "LATENCY"}
    tools: ClassVar[tuple[str, ...]] = (*OnnxFp32.tools, "openvino")

    def build(self, source: Source, folder: Path) -> None:
        openvino.save_model(openvino.convert_model(source.onnx()), folder / MODEL_FILE, compress_to_fp16=True)

    def load(self, folder: Path) -> Encoder:
        model = openvino.Core().compile_model(folder / MODEL_FILE, "CPU", dict(self.parameters))
        request = model.create_infer_request()

        def encode(batch: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
            return np.array(request.infer([batch])[EMBEDDING])

        return encode
