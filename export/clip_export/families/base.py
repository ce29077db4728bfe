"""What every family of checkpoints offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

from clip_client.spec import ModelSpec, Tower
from clip_export.checkpoint import Checkpoint
from clip_export.foreign import reading

if TYPE_CHECKING:
    from clip_export.libraries.base import Library
    from clip_export.towers import Towers


class Family(ABC):
    """A kind of checkpoint: how to describe one, and how to load its towers."""

    def spec(self, checkpoint: Checkpoint, name: str) -> ModelSpec:
        """Describe a checkpoint under a name; of the weights only the logit scale and a digest are read.

        Raises:
            InvalidInput: something is missing, or says what can't be.
        """
        with reading(checkpoint.label, "what its files say"):
            return self.describe(checkpoint, name)

    def towers(self, checkpoint: Checkpoint, spec: ModelSpec) -> Towers:
        """Load both towers in float32, with attention written out so that every exporter understands it.

        Raises:
            InvalidInput: the weights don't fit, or have holes.
        """
        with reading(checkpoint.label, "the model"):
            return self.load(checkpoint, spec)

    @abstractmethod
    def describe(self, checkpoint: Checkpoint, name: str) -> ModelSpec:
        """Do what :meth:`spec` says; errors of any kind are turned into its own."""

    @abstractmethod
    def load(self, checkpoint: Checkpoint, spec: ModelSpec) -> Towers:
        """Do what :meth:`towers` says; errors of any kind are turned into its own."""

    @abstractmethod
    def libraries(self, checkpoint: Checkpoint) -> Mapping[Tower, Library]:
        """Return each tower's own library, with nothing loaded yet."""
