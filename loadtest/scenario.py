"""Shared state of the users of one process: connections, samples, references."""

import contextlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import urllib3

from answers import HITS, Floats, References, WrongAnswer, references
from clip_client import Clip, Search
from clip_client.errors import InvalidInput, Unavailable
from clip_client.search import Row
from samples import Samples

_ROWS, _PART = 2000, 500  # random rows of the collection; rows in one request


@dataclass(frozen=True)
class Serving:
    """Triton under load: client, samples, references of the known ones, share of damaged images."""

    clip: Clip
    samples: Samples
    images: References
    texts: References
    corrupt: float

    def refuse(self, image: bytes) -> None:
        """Send a damaged image; a refusal is the right answer, raise WrongAnswer for an embedding."""
        try:
            self.clip.embed_image(image)
        except InvalidInput:
            return
        raise WrongAnswer("a damaged image got an embedding")


def serving(triton: str, name: str, samples: Samples, known: int, corrupt: float) -> Serving:
    """Connect, and learn the references of the first ``known`` images and of the texts, before the load.

    Raises:
        ClipError: if the server can't be reached or hasn't the checkpoint, or its answers depend on the rest of a batch.
    """
    with contextlib.ExitStack() as opened:
        clip = opened.enter_context(Clip(triton, name=name))
        images, texts = references(clip.embed_image, samples.images[:known]), references(clip.embed_text, samples.texts)
        opened.pop_all()  # it stays open, for the load
    return Serving(clip, samples, images, texts, corrupt)


@dataclass(frozen=True)
class Searching:
    """Sidecar under load, with a collection that exists as long as the load."""

    search: Search
    pool: urllib3.PoolManager
    collection: str
    images: Sequence[bytes]
    dimension: int

    def vectors(self, count: int, draw: np.random.Generator) -> Floats:
        """Draw unit vectors, float32 [count, D]."""
        vectors = draw.normal(size=(count, self.dimension)).astype(np.float32)
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)

    def knn(self, text: str) -> list[dict[str, Any]]:
        """Search by clip-retrieval's route; raise Unavailable if the status isn't 200."""
        body = {"text": text, "modality": "image", "num_images": HITS, "indice_name": self.collection}
        answer = self.pool.request("POST", f"{self.search.url}/knn-service", json=body)
        if answer.status != 200:
            raise Unavailable(f"/knn-service answers {answer.status}: {answer.data[:200]!r}")
        return list(answer.json())

    def close(self) -> None:
        """Drop the collection and close the connections."""
        with contextlib.suppress(Unavailable):  # it may have ended under the load
            self.search.drop(self.collection)
        self.search.close()
        self.pool.clear()


def searching(url: str, images: Sequence[bytes]) -> Searching:
    """Connect, and fill a new collection with the images and with random vectors; raise ClipError if a server is missing."""
    search, collection = Search(url), f"loadtest-{secrets.token_hex(4)}"
    dimension = int(search.create(collection)["dimension"])
    made = Searching(search, urllib3.PoolManager(maxsize=64, retries=False, timeout=60), collection, images, dimension)
    search.add(collection, [Row(id=f"image{n}", image=image) for n, image in enumerate(images)])
    vectors = made.vectors(_ROWS, np.random.default_rng(0))
    for start in range(0, _ROWS, _PART):
        part = enumerate(vectors[start : start + _PART], start)
        search.add(collection, [Row(id=f"r{n}", vector=vector) for n, vector in part])
    return made
