"""OpenVINO's IR computed in bfloat16, on CPUs that have it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from clip_export import machine
from clip_export.files import link
from clip_export.variants.base import Limits, Source
from clip_export.variants.openvino_fp16 import MODEL_FILE, ONE_STREAM, OpenVinoFp16

BF16 = {**ONE_STREAM, "INFERENCE_PRECISION_HINT": "bf16"}


class OpenVinoBf16(OpenVinoFp16):
    """The same file as openvino-fp16; only the arithmetic differs."""

    name: ClassVar[str] = "openvino-bf16"
    limits: ClassVar[Limits] = Limits(0.99, 0.999, 0.99)
    parameters: ClassVar[Mapping[str, str]] = BF16

    def obstacle(self) -> str:
        return "" if machine.has_bf16() else "this CPU has no bfloat16 (AVX512_BF16, AMX or Arm's BF16)"

    def build(self, source: Source, folder: Path) -> None:
        fp16 = source.artefact(OpenVinoFp16.name) / MODEL_FILE
        for file in (fp16, fp16.with_suffix(".bin")):
            link(file, folder / file.name)
