"""transformers: AutoImageProcessor with Pillow, AutoTokenizer, AutoModel."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image

from clip_export.libraries.base import Answer, Library

LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}


class Transformers(Library):
    """A dual encoder of transformers, with the attention that every machine has, whichever one its configuration names.

    Args:
        folder: of the checkpoint.
        padded: pad texts to the whole context, as SigLIP's documentation asks for; else to the longest.
        positions: of the text tower where configuration and tokenizer say too few, as LongCLIP's do; else 0.
        reserved: positions that no token takes.
        attention: implementation of it.
    """

    distribution: ClassVar[str] = "transformers"
    uses: ClassVar[tuple[str, ...]] = ("torch", "pillow", "tokenizers")

    def __init__(self, folder: Path, *, padded: bool, positions: int = 0, reserved: int = 0, attention: str = "sdpa") -> None:
        self._folder = folder
        self._padded = padded
        self._positions = positions
        self._reserved = reserved
        self._attention = attention

    def pictures(self, files: Sequence[bytes]) -> list[Answer]:
        """Embed pictures as the documentation of ``get_image_features`` shows it."""
        pixels = self._processor(images=[opened(file) for file in files], return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            embeddings = self._model.get_image_features(pixel_values=pixels, return_dict=True).pooler_output
        return [Answer(*both) for both in zip(pixels.numpy(), embeddings.numpy(), strict=True)]

    def texts(self, texts: Sequence[str]) -> list[Answer]:
        """Embed texts as the documentation of ``get_text_features`` shows it.

        SigLIP was trained on padding that it sees, and its tokenizers make no mask on the hub; one that does hides it. Other
        texts are embedded alone: padding would be at the start where a tokenizer is saved so, and
        shift CLIP's positions by as much as the longest neighbour is longer.
        """
        groups = [[*texts]] if self._padded else [[text] for text in texts]
        return [answer for group in groups for answer in self._batch(group)]

    def _batch(self, texts: list[str]) -> list[Answer]:
        positions = self._model.config.text_config.max_position_embeddings - self._reserved
        length = self._positions or min(self._tokenizer.model_max_length, positions)
        padding = "max_length" if self._padded else True
        tokens = dict(self._tokenizer(texts, padding=padding, truncation=True, max_length=length, return_tensors="pt"))
        with torch.inference_mode():
            embeddings = self._model.get_text_features(**tokens, return_dict=True).pooler_output.numpy()
        given = np.asarray(tokens["input_ids"]) if self._padded else unmasked(tokens)
        return [Answer(*both) for both in zip(given, embeddings, strict=True)]

    @cached_property
    def _processor(self) -> Any:
        from transformers import AutoImageProcessor

        return AutoImageProcessor.from_pretrained(  # type: ignore[no-untyped-call]
            self._folder, backend="pil", **LOCAL
        )

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self._folder, **LOCAL)

    @cached_property
    def _model(self) -> Any:
        from transformers import AutoConfig, AutoModel

        without_progress()
        config = AutoConfig.from_pretrained(self._folder, **LOCAL)
        if self._positions:
            config.text_config.max_position_embeddings = self._positions
        model = AutoModel.from_pretrained(
            self._folder, config=config, dtype=torch.float32, attn_implementation=self._attention, use_safetensors=True, **LOCAL
        )
        return model.eval()


def without_progress() -> None:
    """Keep transformers' progress bars off the screen."""
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def opened(file: bytes) -> Image.Image:
    """Decode a picture as transformers does: upright, in RGB."""
    from transformers.image_utils import load_image

    return load_image(Image.open(io.BytesIO(file)))


def unmasked(tokens: Any) -> list[np.ndarray]:
    """Return the ids of each text, int64 [L] each, without those that a mask hides."""
    ids = np.asarray(tokens["input_ids"])
    mask = np.asarray(tokens["attention_mask"], bool) if "attention_mask" in tokens else np.ones(ids.shape, bool)
    return [row[seen] for row, seen in zip(ids, mask, strict=True)]
