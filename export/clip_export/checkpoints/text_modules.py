"""Folders of sentence-transformers' text models."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from clip_client.errors import InvalidInput
from clip_export.checkpoints.checkpoint import Checkpoint
from clip_export.checkpoints.file_names import MODULES
from clip_export.checkpoints.tokenizer import TextTokenizer


@dataclass(frozen=True)
class Module:
    """An entry of ``modules.json``.

    Attributes:
        kind: name of its class.
        path: folder of its files; empty for the checkpoint's own.
    """

    kind: str
    path: str


@dataclass(frozen=True)
class ModularCheckpoint(Checkpoint):
    """A checkpoint with a list of modules, of which the first has the encoder, its configuration and its tokenizer."""

    @cached_property
    def modules(self) -> list[Module]:
        """The modules, in order.

        Raises:
            InvalidInput: if they can't be read, or are code of the checkpoint's own.
        """
        return [self._module(entry) for entry in self.json(MODULES, "expected its modules", list)]

    @cached_property
    def encoder(self) -> Checkpoint:
        """The first module's folder."""
        if not self.modules:
            raise InvalidInput(
                f"{self.label}: modules.json has nothing, expected Transformer, Pooling, Dense and Normalize only"
            )
        return Checkpoint(self.folder / self.modules[0].path, self.label, self.revision)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The encoder's configuration."""
        return self.encoder.config

    @cached_property
    def tokenizer(self) -> TextTokenizer:
        """The encoder's tokenizer."""
        return self.encoder.tokenizer

    @cached_property
    def weight_files(self) -> list[Path]:
        """The encoder's weights."""
        return self.encoder.weight_files

    def _module(self, entry: Any) -> Module:
        kind, path = (entry.get("type"), entry.get("path")) if isinstance(entry, dict) else (None, None)
        if not isinstance(kind, str) or not isinstance(path, str) or Path(path).is_absolute() or ".." in Path(path).parts:
            raise InvalidInput(f"{self.label}: modules.json has the entry {entry}, expected a type and a path in the folder")
        if not kind.startswith("sentence_transformers."):
            raise InvalidInput(f"{self.label}: modules.json has {kind}, which is code of its own and isn't run")
        return Module(kind.rpartition(".")[2], str(PurePosixPath(path)).removeprefix("."))
