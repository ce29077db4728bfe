"""open_clip: create_model_from_pretrained, its transform, get_tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import torch
from PIL import Image

from clip_export.checkpoints.open_clip import OpenClipCheckpoint, library
from clip_export.libraries.base import Answer, Library
from clip_export.libraries.hugging_face import opened


class OpenClipLibrary(Library):
    """A model of open_clip.

    It leaves decoding to its caller. Pictures are decoded as transformers does: upright, and what is transparent on white.
    """

    distribution: ClassVar[str] = "open-clip-torch"
    uses: ClassVar[tuple[str, ...]] = ("torch", "pillow", "transformers", "tokenizers")

    def __init__(self, checkpoint: OpenClipCheckpoint) -> None:
        self._checkpoint = checkpoint

    @property
    def title(self) -> str:
        """Name and the module's own version: it was imported to read the checkpoint."""
        return f"open_clip {library().__version__}"

    def pictures(self, files: Sequence[bytes]) -> list[Answer]:
        """Embed pictures as its README shows it."""
        model, transform = self._opened
        pixels = torch.stack([transform(_on_white(opened(file))) for file in files])
        with torch.inference_mode():
            embeddings = model.encode_image(pixels)
        return [Answer(*both) for both in zip(pixels.numpy(), embeddings.numpy(), strict=True)]

    def texts(self, texts: Sequence[str]) -> list[Answer]:
        """Embed texts as its README shows it."""
        tokens = self._tokenizer([*texts])
        with torch.inference_mode():
            embeddings = self._opened[0].encode_text(tokens)
        return [Answer(*both) for both in zip(tokens.numpy(), embeddings.numpy(), strict=True)]

    @cached_property
    def _opened(self) -> tuple[Any, Any]:
        """Open the model; returns (model, transform)."""
        known = self._checkpoint
        if known.model.startswith("local-dir:"):
            model, transform = library().create_model_from_pretrained(known.model)
        else:
            model, transform = library().create_model_from_pretrained(
                known.model, pretrained=str(known.weights), **self._stored
            )
        return model.eval(), transform

    @cached_property
    def _tokenizer(self) -> Any:
        return library().get_tokenizer(self._checkpoint.model)

    @property
    def _stored(self) -> dict[str, Any]:
        """Return the preprocessing that open_clip keeps for a tag, under the names of its own arguments."""
        names = {"mean": "image_mean", "std": "image_std", "interpolation": "image_interpolation"}
        names |= {"resize_mode": "image_resize_mode"}
        kept = self._checkpoint.preprocessing
        return {argument: kept[name] for name, argument in names.items() if name in kept}


def _on_white(image: Image.Image) -> Any:
    from transformers.image_transforms import convert_to_rgb

    return convert_to_rgb(image)
