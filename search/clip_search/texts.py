"""Queries to tune on: what people asked lately, then plain texts of all sorts, through the text tower."""

from __future__ import annotations

import threading
from collections import deque
from importlib.resources import files

import numpy as np

from clip_client.errors import ClipError
from clip_search.embedder import Embedder
from clip_search.faiss_index import Floats
from clip_search.tuning import Source


class TuningQueries:
    """Text vectors of one model."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._lock = threading.Lock()
        self._asked: deque[Floats] = deque(maxlen=256)
        self._plain: tuple[str, Floats] | None = None

    def asked(self, vector: Floats) -> None:
        """Note a text query [D]."""
        self._asked.append(vector)

    def sample(self, count: int, fingerprint: str, size: int) -> tuple[Floats, Source]:
        """At most ``count`` queries [n, D] of a model; none where it isn't the one that is served."""
        with self._lock:
            try:
                plain = self._texts(fingerprint, size)
            except ClipError:
                return np.empty((0, size), np.float32), "vectors"
        asked = [vector for vector in list(self._asked) if len(vector) == size]
        return np.concatenate([np.reshape(asked, (-1, size)), plain])[:count].astype(np.float32), "texts"

    def _texts(self, fingerprint: str, size: int) -> Floats:
        spec = self._embedder.spec
        if (fingerprint and spec.fingerprint != fingerprint) or spec.embedding_size != size:
            raise ClipError("another model is served")
        if not self._plain or self._plain[0] != spec.fingerprint:
            texts = files("clip_search").joinpath("tuning_texts.txt").read_text(encoding="utf-8").splitlines()
            rows = [row for row in self._embedder.texts(texts) if row is not None]
            self._plain = spec.fingerprint, np.stack(rows)
        return self._plain[1]
