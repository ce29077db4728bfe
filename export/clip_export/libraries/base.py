"""Interface of a checkpoint's own library."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt


class NotCompared(Exception):
    """The library isn't installed, or can't embed this kind of item; the message says why."""


@dataclass(frozen=True)
class Answer:
    """Answer of a library for one picture or text.

    Attributes:
        given: the model's input: normalised pixels float32 [3, S, S], or the tokens that it doesn't mask, int64 [L].
        embedding: float32 [D], of any length.
    """

    given: npt.NDArray[Any]
    embedding: npt.NDArray[np.float32]


class Library(ABC):
    """One checkpoint opened with its own library. Files are local, weights are safetensors, no code of a checkpoint is run.

    Attributes:
        distribution: name of its package on PyPI.
        uses: other packages whose version may change its answers.
    """

    distribution: ClassVar[str]
    uses: ClassVar[tuple[str, ...]]

    @property
    def title(self) -> str:
        """Name and version, as the report tells them.

        Raises:
            NotCompared: if it isn't installed.
        """
        try:
            return f"{self.distribution} {version(self.distribution)}"
        except PackageNotFoundError as problem:
            raise NotCompared(f"{self.distribution} isn't installed: pip install {self.distribution}") from problem

    def versions(self) -> list[str]:
        """Return everything whose change outdates a comparison; raises as :attr:`title`."""
        return [self.title, *(f"{package} {version(package)}" for package in self.uses)]

    def close(self) -> None:
        """Free the loaded model."""
        for name in [name for name in vars(self) if isinstance(getattr(type(self), name, None), cached_property)]:
            del self.__dict__[name]

    def pictures(self, files: Sequence[bytes]) -> list[Answer]:
        """Embed encoded pictures; raises the library's own errors, or NotCompared if it embeds texts alone."""
        raise NotCompared(f"{self.distribution} is the library of the text tower alone")

    @abstractmethod
    def texts(self, texts: Sequence[str]) -> list[Answer]:
        """Embed texts, cut off at the context; raises the library's own errors."""
