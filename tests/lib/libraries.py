"""Checkpoints beside their own library: transformers through its public entry points, both towers of ours in this process."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import references
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer
from transformers.image_utils import load_image

from clip_client import ModelSpec
from clip_client.preprocess import preprocess
from clip_client.tokens import Tokenizer
from clip_export import families
from clip_export.checkpoints import find as checkpoint_files


@dataclasses.dataclass(frozen=True)
class Ours:
    """A checkpoint as it would be exported."""

    found: checkpoint_files.Checkpoint
    spec: ModelSpec
    tokenizer: Tokenizer

    @classmethod
    def read(cls, folder: Path, text: Path | None = None) -> Ours:
        """Read a folder, or two."""
        return cls.of(checkpoint_files.find(str(folder), None, str(text) if text else None))

    @classmethod
    def of(cls, found: checkpoint_files.Checkpoint) -> Ours:
        """Take a checkpoint."""
        spec = families.of(found).spec(found, "clip")
        return cls(found, spec, Tokenizer(found.tokenizer_json, spec))

    def tokens(self, texts: Sequence[str]) -> np.ndarray:
        """int32 [N, L]."""
        tokens, errors = self.tokenizer([text.encode() for text in texts])
        assert errors == [""] * len(texts)
        return tokens

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Unit embeddings, float32 [N, D]."""
        tower = families.of(self.found).towers(self.found, self.spec).text
        with torch.inference_mode():
            return tower(torch.from_numpy(self.tokens(texts))).numpy()

    def embed_images(self, images: Sequence[bytes]) -> np.ndarray:
        """Unit embeddings, float32 [N, D]."""
        tower = families.of(self.found).towers(self.found, self.spec).image
        with torch.inference_mode():
            return tower(torch.from_numpy(np.stack([preprocess(image, self.spec) for image in images]))).numpy()

    def pixels(self, images: Sequence[bytes]) -> np.ndarray:
        """As the image tower sees them, float32 [N, 3, S, S]."""
        mean, std = (np.array(values, np.float64)[:, None, None] for values in (self.spec.mean, self.spec.std))
        raw = np.stack([preprocess(image, self.spec) for image in images]).astype(np.float64)
        return ((np.moveaxis(raw, -1, 1) / 255 - mean) / std).astype(np.float32)


def tokens(folder: Path, texts: Sequence[str], spec: ModelSpec) -> list[list[int]]:
    """The library's, each text by itself and without what pads it."""
    padding = "max_length" if spec.padding == "full" else False
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return [tokenizer(text, padding=padding, truncation=True, max_length=spec.context_length)["input_ids"] for text in texts]


def embed(folder: Path, texts: Sequence[str], spec: ModelSpec) -> np.ndarray:
    """The library's embeddings of texts as it documents the call, float32 [N, D]."""
    settings = {"padding": "max_length" if spec.padding == "full" else True, "return_tensors": "pt"}
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    given = tokenizer(list(texts), truncation=True, max_length=spec.context_length, **settings)
    with torch.inference_mode():
        return references.unit(model.get_text_features(**given).pooler_output)


def pixels(folder: Path, images: Sequence[bytes]) -> np.ndarray:
    """The library's, float32 [N, 3, S, S]."""
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    upright: list[Any] = [load_image(Image.open(io.BytesIO(image))) for image in images]
    return np.stack([np.asarray(processor(image, return_tensors="np")["pixel_values"][0], np.float32) for image in upright])
