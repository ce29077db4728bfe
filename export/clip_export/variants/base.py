"""What every variant offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from torch import nn

from clip_client.spec import ModelSpec, Tower

Encoder = Callable[[npt.NDArray[Any]], npt.NDArray[np.float32]]
"""pixels uint8 [N, S, S, 3] or tokens int32 [N, L] -> embedding float32 [N, D]."""


@dataclass(frozen=True)
class Source:
    """What an artefact is made from.

    Attributes:
        tower: which of the two.
        spec: of the checkpoint.
        module: loads the torch tower.
        onnx: gives the tower's ONNX file, built first if need be.
    """

    tower: Tower
    spec: ModelSpec
    module: Callable[[], nn.Module]
    onnx: Callable[[], Path]


class Variant(ABC):
    """One way to run a tower.

    Attributes:
        name: as on the command line.
        backend: Triton's name of the backend that runs it.
        kind: Triton's name of where an instance may run.
        limit: least cosine to the torch tower that the gate lets pass.
        parameters: of the Triton model configuration; the gate runs the artefact with the same.
        tools: packages whose version shapes the artefact.
    """

    name: ClassVar[str]
    backend: ClassVar[str]
    kind: ClassVar[Literal["KIND_AUTO", "KIND_CPU"]]
    limit: ClassVar[float]
    parameters: ClassVar[Mapping[str, str]]
    tools: ClassVar[tuple[str, ...]]

    @abstractmethod
    def build(self, source: Source, folder: Path) -> None:
        """Write the artefact's files into an empty folder."""

    @abstractmethod
    def load(self, folder: Path) -> Encoder:
        """Open an artefact in this process."""
