"""OpenVINO's IR computed in bfloat16, on CPUs that have it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from clip_client.hard_links import link
from clip_export import hardware
from clip_export.variants.base import Limits, Source
from clip_export.variants.openvino_fp16 import MODEL_FILE, ONE_STREAM, WEIGHTS_FILE, OpenVinoFp16

BF16 = {**ONE_STREAM, "INFERENCE_PRECISION_HINT": "bf16"}


class OpenVinoBf16(OpenVinoFp16):
    """The same file as openvino-fp16; only the arithmetic differs."""

    name: ClassVar[str] = "openvino-bf16"
    limits: ClassVar[Limits] = Limits(0.99, 0.999, 0.99)
    parameters: ClassVar[Mapping[str, str]] = BF16

    def obstacle(self) -> str:
        return "" if hardware.has_bf16() else "this CPU has no bfloat16 (AVX512_BF16, AMX or Arm's BF16)"

    def build(self, source: Source, folder: Path) -> None:
        fp16 = source.artefact(OpenVinoFp16.name)
        for name in (MODEL_FILE, WEIGHTS_FILE):
            link(fp16 / name, folder / name)
