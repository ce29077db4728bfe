"""Interface of engines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from clip_client.clip import Embeddings
from clip_client.model_repository import FOLDER
from clip_client.spec import ModelSpec, Tower


class Engine(Protocol):
    """Embeds lists of items; safe to use from several threads."""

    @property
    def spec(self) -> ModelSpec:
        """Spec of the checkpoint."""

    def embed(self, tower: Tower, items: Sequence[Any]) -> Embeddings:
        """Embed encoded pictures or texts: an embedding [D] for each, or None and its reason.

        Raises:
            Unavailable, Timeout: it can't embed at all.
        """

    def give_up(self) -> None:
        """Have waits end, those of other threads: the run was interrupted."""

    def close(self) -> None:
        """Give back memory and connections."""


@dataclass(frozen=True)
class EngineOptions:
    """Choice of an engine.

    Attributes:
        kind: ``local`` or ``triton``.
        name: the checkpoint's, as it was published.
        repository, device, threads: of models in this process; see :meth:`clip_client.Clip.local`.
        addresses: of gRPC endpoints.
        patience_s: bound on a wait for a server that went away.
    """

    kind: str = "local"
    name: str = "clip"
    repository: Path = FOLDER
    device: str = "CPU"
    threads: int | None = None
    addresses: tuple[str, ...] = ()
    patience_s: float = 300.0
