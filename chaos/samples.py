"""Content of the load: a row's vector and metadata follow from its serial number, so any answer can be judged by itself."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from clip_client import Clip
from lib.samples import DRAWINGS, texts

Floats = npt.NDArray[np.float32]

PICTURES = TEXTS = 24
_ROUNDING = 2e-3  # scores are cosines of half-precision vectors
_SPREADS = 4.0  # of the model's own answers to one picture, by itself and in a batch


@dataclass(frozen=True)
class Samples:
    """Pictures and texts with their embeddings, float32 [N, D], and the largest difference that a right answer may have."""

    pictures: Sequence[str]  # files in base64
    picture_vectors: Floats
    texts: Sequence[str]
    text_vectors: Floats
    tolerance: float

    @property
    def size(self) -> int:
        """Number of components of an embedding."""
        return int(self.picture_vectors.shape[1])

    def vector(self, serial: int) -> Floats:
        """Return the vector of a row, float32 [D], of unit length."""
        return self.picture_vectors[serial // 2 % PICTURES] if is_pictured(serial) else drawn(serial, self.size)

    def row(self, id: str, serial: int) -> dict[str, Any]:
        """Return a row as it is sent."""
        content = (
            {"image": self.pictures[serial // 2 % PICTURES]} if is_pictured(serial) else {"vector": packed(self.vector(serial))}
        )
        return {"id": id, "metadata": metadata(serial), **content}


def is_pictured(serial: int) -> bool:
    """Tell if a row is sent as a picture, for Triton to embed; others come with their vector."""
    return serial % 2 == 1


def metadata(serial: int) -> dict[str, Any]:
    """Return the columns of a row."""
    return {"serial": serial, "label": f"row {serial}"}


@lru_cache(20_000)
def drawn(seed: int, size: int) -> Floats:
    """Return a random direction, float32 [size]."""
    vector = np.random.default_rng(seed).normal(size=size).astype(np.float32)
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


def packed(vector: Floats) -> str:
    """Return a vector in base64, as the API takes it."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def unpacked(vector: str) -> Floats:
    """Return a vector that the API gave, float32 [D]."""
    return np.frombuffer(base64.b64decode(vector), "<f4").astype(np.float32)


def embedded(triton: str) -> Samples:
    """Have Triton embed bundled drawings and made-up texts, before anything fails."""
    files = [path.read_bytes() for path in sorted(DRAWINGS.glob("*.webp"))[: PICTURES * 40 : 40]]
    words = texts(TEXTS)
    with Clip(triton, timeout_s=60) as clip:
        clip.wait_ready(timeout_s=120)
        pictures, queries = clip.embed_image(files), clip.embed_text(words)
        alone = np.stack([clip.embed_image(file) for file in files])
    spread = float(np.abs(np.linalg.norm(pictures - alone, axis=1)).max())
    sent = [base64.b64encode(file).decode() for file in files]
    return Samples(sent, np.asarray(alone), words, np.asarray(queries), _ROUNDING + _SPREADS * spread)
