"""Interface of a family of checkpoints."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from clip_client.spec import ModelSpec, Tower
from clip_export.checkpoints.checkpoint import Checkpoint
from clip_export.families.weight_errors import refuse_unsound
from clip_export.libraries.base import Library
from clip_export.library_errors import reading
from clip_export.towers import Towers


class Family(ABC):
    """A kind of checkpoint: description and loading of its towers."""

    def spec(self, checkpoint: Checkpoint, name: str) -> ModelSpec:
        """Describe a checkpoint under a name; of the weights only the logit scale and a digest are read.

        Raises:
            InvalidInput: if something is missing or impossible, or a number that the towers compute with isn't finite.
        """
        with reading(checkpoint.label, "what its files say"):
            spec = self.describe(checkpoint, name)
        if unsound := self.unsound(checkpoint):  # rare, and only the loaded model tells if they are used
            refuse_unsound(self.towers(checkpoint, spec), unsound, checkpoint.label)
        return spec

    def unsound(self, checkpoint: Checkpoint) -> Mapping[str, str]:
        """Return ``NaN`` or ``infinity`` by the name of each tensor that has any."""
        return checkpoint.unsound_weights

    def towers(self, checkpoint: Checkpoint, spec: ModelSpec) -> Towers:
        """Load both towers in float32, with attention written out so that every exporter understands it.

        Raises:
            InvalidInput: if the weights don't fit, or lack tensors.
        """
        with reading(checkpoint.label, "the model"):
            return self.load(checkpoint, spec)

    @abstractmethod
    def describe(self, checkpoint: Checkpoint, name: str) -> ModelSpec:
        """Implement :meth:`spec`, which turns errors of any kind into its own."""

    @abstractmethod
    def load(self, checkpoint: Checkpoint, spec: ModelSpec) -> Towers:
        """Implement :meth:`towers`, which turns errors of any kind into its own."""

    @abstractmethod
    def libraries(self, checkpoint: Checkpoint) -> Mapping[Tower, Library]:
        """Return each tower's own library, with nothing loaded yet."""
