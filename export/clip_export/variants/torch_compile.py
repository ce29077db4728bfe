"""PyTorch in float32 through ``torch.compile``."""

from __future__ import annotations

import os
import shutil
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from clip_export.variants.base import Artefact, Encoder
from clip_export.variants.torch_fp32 import TorchFp32


class TorchCompile(TorchFp32):
    """The same weights, compiled for any batch by inductor, which writes C++ and calls a compiler."""

    name: ClassVar[str] = "torch-compile"

    def obstacle(self) -> str:
        compiler = os.environ.get("CXX", "g++")
        return "" if shutil.which(compiler) else f"torch.compile needs a C++ compiler, and there is no {compiler}: install one"

    def load(self, artefact: Artefact) -> Encoder:
        compiled = torch.compile(artefact.module(), dynamic=True)

        def encode(batch: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
            with torch.inference_mode():
                return np.asarray(compiled(torch.from_numpy(batch)).numpy())

        return encode
