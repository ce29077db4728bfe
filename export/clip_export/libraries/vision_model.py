"""transformers: a vision model without a text tower."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch

from clip_export.libraries.base import Answer, Library, NotCompared
from clip_export.libraries.hugging_face import LOCAL, Transformers, loaded

_PROJECTED = "VisionModelWithProjection"


class VisionModel(Transformers):
    """A vision model of transformers."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, padded=False)

    def pictures(self, files: Sequence[bytes]) -> list[Answer]:
        """Embed pictures as the model's documentation shows it."""
        pixels = self.pixels(files)
        with torch.inference_mode():
            embeddings = embedding(self._model(pixel_values=pixels, return_dict=True))
        return [Answer(*both) for both in zip(pixels.numpy(), embeddings.numpy(), strict=True)]

    def texts(self, texts: Sequence[str]) -> list[Answer]:
        """Raise NotCompared."""
        raise NotCompared(_NONE)

    @cached_property
    def _model(self) -> Any:
        return loaded(model_class(self._folder), self._folder)


class NoTexts(Library):
    """Stand-in for the library of a text tower that doesn't exist."""

    distribution: ClassVar[str] = "transformers"
    uses: ClassVar[tuple[str, ...]] = ()

    @property
    def title(self) -> str:
        """Raise NotCompared."""
        raise NotCompared(_NONE)

    def texts(self, texts: Sequence[str]) -> list[Answer]:
        """Raise NotCompared."""
        raise NotCompared(_NONE)


_NONE = "there is no text tower (--image-only)"


def model_class(folder: Path) -> Any:
    """Return transformers' class of the vision model in a folder: the one with a projection where it was saved as such."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(folder, **LOCAL)
    saved = next(iter(config.architectures or ()), "")
    if saved.endswith(_PROJECTED) and hasattr(transformers, saved):
        return getattr(transformers, saved)
    return transformers.AutoModel._model_mapping[type(config)]


def embedding(output: Any) -> torch.Tensor:
    """Return a vision model's embedding of each picture [N, D]: projected where it projects, else pooled.

    Raises:
        ValueError: if it has none of a whole picture.
    """
    pooled = output.image_embeds if "image_embeds" in output else output.get("pooler_output")
    if pooled is None:
        raise ValueError("it has no pooled output")
    flat: torch.Tensor = pooled.flatten(1)  # networks of convolutions keep [N, D, 1, 1]
    return flat
