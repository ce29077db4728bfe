"""transformers: AutoImageProcessor with Pillow, AutoTokenizer, AutoModel."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cached_property
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image

from clip_export import json_record
from clip_export.checkpoints.file_names import MERGED_FROM
from clip_export.checkpoints.text_positions import text_positions
from clip_export.libraries.base import Answer, Library

LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}


class Transformers(Library):
    """A dual encoder of transformers, with the attention that every machine has, whichever one its configuration names.

    Args:
        folder: of the checkpoint.
        padded: pad texts to the whole context, as SigLIP's documentation asks for; else to the longest.
        positions: of the text tower where configuration and tokenizer say too few, as LongCLIP's do; else 0.
        attention: implementation of it.
    """

    distribution: ClassVar[str] = "transformers"
    uses: ClassVar[tuple[str, ...]] = ("torch", "pillow", "tokenizers")

    def __init__(self, folder: Path, *, padded: bool, positions: int = 0, attention: str = "sdpa") -> None:
        self._folder = folder
        self._padded = padded
        self._positions = positions
        self._attention = attention

    def pictures(self, files: Sequence[bytes]) -> list[Answer]:
        """Embed pictures as the documentation of ``get_image_features`` shows it."""
        pixels = self.pixels(files)
        with torch.inference_mode():
            embeddings = self._model.get_image_features(pixel_values=pixels, return_dict=True).pooler_output
        return [Answer(*both) for both in zip(pixels.numpy(), embeddings.numpy(), strict=True)]

    def pixels(self, files: Sequence[bytes]) -> torch.Tensor:
        """Prepare pictures: float32 [N, 3, S, S]."""
        pixels: torch.Tensor = self._processor(images=[opened(file) for file in files], return_tensors="pt")["pixel_values"]
        return pixels

    def texts(self, texts: Sequence[str]) -> list[Answer]:
        """Embed texts as the documentation of ``get_text_features`` shows it.

        SigLIP was trained on padding that it sees, and its tokenizers make no mask on the hub; one that does hides it. Other
        texts are embedded alone: padding would be at the start where a tokenizer is saved so, and
        shift CLIP's positions by as much as the longest neighbour is longer.
        """
        groups = [[*texts]] if self._padded else [[text] for text in texts]
        return [answer for group in groups for answer in self._batch(group)]

    def _batch(self, texts: list[str]) -> list[Answer]:
        length = self._positions or min(self._tokenizer.model_max_length, text_positions(self._model.config.text_config))
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

    @property
    def title(self) -> str:
        """Name and version; with peft's where an adapter is merged by it for the comparison."""
        return f"{super().title} with peft {version('peft')}" if self._merged_from else super().title

    @cached_property
    def _model(self) -> Any:
        from transformers import AutoModel

        if not self._merged_from:
            return loaded(AutoModel, self._folder, config=self._config, attention=self._attention)
        from peft import PeftModel

        base = loaded(AutoModel, Path(self._merged_from["base"]), config=self._config, attention=self._attention)
        return PeftModel.from_pretrained(base, self._merged_from["adapter"]).merge_and_unload().eval()

    @cached_property
    def _config(self) -> Any:
        """The configuration that replaces the checkpoint's; None where its own holds."""
        from transformers import AutoConfig

        if not self._positions:
            return None
        config = AutoConfig.from_pretrained(self._folder, **LOCAL)
        config.text_config.max_position_embeddings = self._positions
        return config

    @cached_property
    def _merged_from(self) -> dict[str, Any]:
        """Base and adapter of a merged folder; empty for others, and where peft isn't installed."""
        return json_record.read(self._folder / MERGED_FROM) if find_spec("peft") else {}


def loaded(model_class: Any, folder: Path, *, config: Any = None, attention: str = "sdpa") -> Any:
    """Load a model in float32, by default with the attention that every machine has; a configuration replaces its own."""
    without_progress()
    options: dict[str, Any] = {"dtype": torch.float32, "use_safetensors": True, "config": config, **LOCAL}
    try:
        model = model_class.from_pretrained(folder, attn_implementation=attention, **options)
    except ValueError:  # a model that has no such attention, as ALIGN
        model = model_class.from_pretrained(folder, attn_implementation="eager", **options)
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
