"""Queries to tune on: people's latest, then plain texts of all sorts, through the text tower."""

import random
import threading
from collections import deque
from collections.abc import Sequence
from importlib.resources import files
from typing import Protocol

import numpy as np

from clip_client.errors import ClipError
from clip_client.spec import ModelSpec
from clip_search.arrays import Floats
from clip_search.index.tuning import Source

_LENGTHS, _PLAIN = (2, 6, 12), 256  # words in a text, texts in all


class TextEncoder(Protocol):
    """Text tower of the model that is served."""

    @property
    def spec(self) -> ModelSpec:
        """Contract of the model."""

    def texts(self, texts: Sequence[str]) -> Sequence[Floats | None]:
        """Return a vector [D] for each text; None for one that can't be embedded."""


class TuningQueries:
    """Text queries of one model as vectors."""

    def __init__(self, encoder: TextEncoder) -> None:
        self._encoder = encoder
        self._lock = threading.Lock()
        self._asked: deque[Floats] = deque(maxlen=256)
        self._plain: tuple[str, Floats] | None = None

    def asked(self, vector: Floats) -> None:
        """Note a text query [D]."""
        self._asked.append(vector)

    def sample(self, count: int, space: str, size: int) -> tuple[Floats, Source]:
        """Return at most ``count`` queries [n, D] of a space; none if a model of another is served.

        Their source is ``asked`` once half of them are people's.
        """
        with self._lock:
            try:
                plain = self._texts(space, size)
            except ClipError:
                return np.empty((0, size), np.float32), "vectors"
        asked = [vector for vector in list(self._asked) if len(vector) == size]
        half = count // 2
        queries = np.concatenate([np.reshape(asked, (-1, size))[-half:], plain])
        return queries[:count].astype(np.float32), "asked" if len(asked) >= half else "texts"

    def _texts(self, space: str, size: int) -> Floats:
        spec = self._encoder.spec
        if (space and spec.space != space) or spec.embedding_size != size:
            raise ClipError("another model is served")
        if not self._plain or self._plain[0] != spec.fingerprint:
            rows = [row for row in self._encoder.texts(_plain_texts()) if row is not None]
            if not rows:
                raise ClipError("the model embeds none of the texts")
            self._plain = spec.fingerprint, np.stack(rows)
        return self._plain[1]


def _plain_texts() -> list[str]:
    """Return phrases, and random words of them in several lengths, by turns: people ask in all of these ways."""
    phrases = files("clip_search").joinpath("tuning_texts.txt").read_text(encoding="utf-8").splitlines()
    words, draw = " ".join(phrases).split(), random.Random(0)  # noqa: S311  (to be the same each time)
    mixes = [[" ".join(draw.choices(words, k=length)) for _ in phrases] for length in _LENGTHS]
    return [text for turn in zip(phrases, *mixes, strict=True) for text in turn][:_PLAIN]
