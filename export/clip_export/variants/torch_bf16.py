"""PyTorch with its matrix products in bfloat16."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from clip_export import hardware
from clip_export.variants.base import Artefact, Encoder, Limits
from clip_export.variants.torch_fp32 import TorchFp32


class TorchBf16(TorchFp32):
    """The same weights under ``torch.autocast``."""

    name: ClassVar[str] = "torch-bf16"
    limits: ClassVar[Limits] = Limits(0.99, 0.999, 0.99)

    def caution(self) -> str:
        return "" if hardware.has_bf16() else "this CPU has no bfloat16: torch emulates it"

    def load(self, artefact: Artefact) -> Encoder:
        module = artefact.module()

        def encode(batch: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
                return np.asarray(module(torch.from_numpy(batch)).float().numpy())

        return encode
