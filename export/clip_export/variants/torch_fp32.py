"""PyTorch in float32: the reference for all other variants."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch

from clip_export.towers.pooled_layer import as_it_comes
from clip_export.variants.base import Artefact, Encoder, Limits, Source, Variant


class TorchFp32(Variant):
    """The checkpoint's own weights; no file is written, and Triton doesn't serve it."""

    name: ClassVar[str] = "torch-fp32"
    backend: ClassVar[str | None] = None
    kind: ClassVar[Literal["KIND_AUTO", "KIND_CPU", "KIND_GPU"]] = "KIND_CPU"
    limits: ClassVar[Limits] = Limits(0.9999, 0.9999, 0.9999)
    tools: ClassVar[tuple[str, ...]] = ("torch", "transformers")

    def build(self, source: Source, folder: Path) -> None:
        """Nothing to build."""

    def load(self, artefact: Artefact) -> Encoder:
        module = as_it_comes(artefact.module())

        def encode(batch: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
            with torch.inference_mode():
                return np.asarray(module(torch.from_numpy(batch)).numpy())

        return encode
