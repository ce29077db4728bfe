"""Interface of a variant."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy.typing as npt

from clip_client import engines
from clip_client.spec import ModelSpec, Tower
from clip_export.variants.quantization import Recipe

if TYPE_CHECKING:  # a command's options need no torch
    from torch import nn

MAX_BATCH = 32
"""The largest batch that a server makes."""

Encoder = engines.Encoder


@dataclass(frozen=True)
class Limits:
    """Least cosines that the gate lets pass; 1 is perfect.

    Attributes:
        cosine_min: worst item, to torch.
        cosine_mean: all items, to torch.
        invariance: worst item, alone against in a batch, and a text short against padded.
    """

    cosine_min: float
    cosine_mean: float
    invariance: float


@dataclass(frozen=True)
class Source:
    """Inputs of a build.

    Attributes:
        tower: image or text.
        spec: of the checkpoint.
        module: loads the torch tower, which the build may use up.
        artefact: returns the folder of another variant of the same tower, by its name; builds it first if need be.
        calibration: returns encoder inputs of one item each, to find the ranges of activations.
        recipe: of the quantisation; None for variants that have no recipes.
    """

    tower: Tower
    spec: ModelSpec
    module: Callable[[], nn.Module]
    artefact: Callable[[str], Path]
    calibration: Callable[[], list[npt.NDArray[Any]]]
    recipe: Recipe | None


@dataclass(frozen=True)
class Artefact:
    """A built tower that can be opened in this process or another.

    Attributes:
        folder: of its files.
        tower: image or text.
        module: loads the torch tower; can be pickled.
    """

    folder: Path
    tower: Tower
    module: Callable[[], nn.Module]


class UnfitError(Exception):
    """A tower that a variant can't be made from; the message is the reason."""


class Variant(ABC):
    """One way to run a tower.

    Attributes:
        name: as on the command line.
        backend: name of the Triton backend that runs it; None for a variant that is only measured.
        kind: Triton's name of the devices that an instance may run on.
        ragged: the backend joins requests of texts of different lengths by itself.
        tokenizes: the backend takes texts as well as tokens.
        tells_checksums: the backend tells checksums of what it got and gave.
        limits: of the gate.
        parameters: of the Triton model configuration; the gate runs the artefact with the same.
        tools: packages whose version shapes the artefact.
        recipes: ways to quantise, tried in order until one passes the gate; empty where nothing is quantised.
        approximates: name of the variant that it gives up for speed, which the user has to allow; all of its recipes are tried,
            and the first that passes is kept. Empty for variants that compute the checkpoint's own operations.
    """

    name: ClassVar[str]
    backend: ClassVar[str | None]
    kind: ClassVar[Literal["KIND_AUTO", "KIND_CPU", "KIND_GPU"]]
    ragged: ClassVar[bool] = False
    tokenizes: ClassVar[bool] = False
    tells_checksums: ClassVar[bool] = False
    limits: ClassVar[Limits]
    parameters: ClassVar[Mapping[str, str]] = {}
    tools: ClassVar[tuple[str, ...]]
    recipes: ClassVar[tuple[Recipe, ...]] = ()
    approximates: ClassVar[str] = ""

    def obstacle(self) -> str:
        """Return the reason that this variant can't be built or run on this machine; empty where it can."""
        return ""

    def caution(self) -> str:
        """Return a warning about this machine for its user; empty for none."""
        return ""

    @abstractmethod
    def build(self, source: Source, folder: Path) -> None:
        """Write the artefact's files into an empty folder.

        Raises:
            UnfitError: for a tower that it can't be made from.
        """

    @abstractmethod
    def load(self, artefact: Artefact) -> Encoder:
        """Open an artefact in this process."""
