"""Engine in this process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from clip_client import Clip
from clip_client.clip import Embeddings
from clip_client.spec import ModelSpec, Tower
from clip_embed.engines.base import EngineOptions


class Local:
    """Published models in this process."""

    def __init__(self, options: EngineOptions) -> None:
        self._clip = Clip.local(options.repository, name=options.name, device=options.device, threads=options.threads)

    @property
    def spec(self) -> ModelSpec:
        """Spec of the checkpoint."""
        return self._clip.spec

    def embed(self, tower: Tower, items: Sequence[Any]) -> Embeddings:
        """Embed a list."""
        embed = self._clip.embed_image if tower == "image" else self._clip.embed_text
        return embed(list(items), on_error="none")

    def give_up(self) -> None:
        """Wait for nothing anyway."""

    def close(self) -> None:
        """Give back the memory of the models."""
        self._clip.close()

    def __enter__(self) -> Local:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()
