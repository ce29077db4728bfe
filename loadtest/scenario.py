"""What the users of one process share: connections, samples, and the right answers."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import urllib3

from answers import Floats, References, WrongAnswer, references
from clip_client import Clip, Search
from clip_client.errors import InvalidInput, Unavailable
from clip_client.search import Hit, Row
from samples import Samples

K = 10
_ROWS, _PART = 2000, 500


@dataclass(frozen=True)
class Serving:
    """Triton under load: a client, what is sent, the embeddings of what is known, the share of images that are damaged."""

    clip: Clip
    samples: Samples
    images: References
    texts: References
    corrupt: float

    def embed_image(self, n: int) -> Floats:
        """Image n of the samples, float32 [D]."""
        return self.clip.embed_image(self.samples.images[n])

    def refuse(self, image: bytes) -> None:
        """Send a damaged image; a refusal is the right answer.

        Raises:
            WrongAnswer: it got an embedding.
        """
        try:
            self.clip.embed_image(image)
        except InvalidInput:
            return
        raise WrongAnswer("a damaged image got an embedding")

    def close(self) -> None:
        """Close the connection."""
        self.clip.close()


def serving(triton: str, name: str, samples: Samples, known: int, corrupt: float) -> Serving:
    """Connect, and learn the right answers of the first ``known`` images and of the texts, while nobody else asks.

    Raises:
        ClipError: the server can't be reached, or hasn't the checkpoint; or its answers depend on what else is in a batch.
    """
    clip = Clip(triton, name=name)
    images = references(clip.embed_image, samples.images[:known])
    return Serving(clip, samples, images, references(clip.embed_text, samples.texts), corrupt)


@dataclass(frozen=True)
class Searching:
    """A sidecar under load, with a collection of its own for as long as that takes."""

    search: Search
    pool: urllib3.PoolManager
    collection: str
    images: Sequence[bytes]
    dimension: int

    def vectors(self, count: int, draw: np.random.Generator) -> Floats:
        """Random unit vectors, float32 [count, D]."""
        found = draw.normal(size=(count, self.dimension)).astype(np.float32)
        return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)

    def knn(self, text: str) -> list[dict[str, Any]]:
        """What clip-retrieval's route answers.

        Raises:
            Unavailable: with a status other than 200.
        """
        asked = {"text": text, "modality": "image", "num_images": K, "indice_name": self.collection}
        answer = self.pool.request("POST", f"{self.search.url}/knn-service", json=asked)
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
    """Connect, and fill a new collection with the images and with random vectors.

    Raises:
        ClipError: the sidecar or its Triton can't be reached.
    """
    search, collection = Search(url), f"loadtest-{secrets.token_hex(4)}"
    dimension = int(search.create(collection)["dimension"])
    made = Searching(search, urllib3.PoolManager(maxsize=64, retries=False, timeout=60), collection, images, dimension)
    search.add(collection, [Row(id=f"image{n}", image=image) for n, image in enumerate(images)])
    vectors = made.vectors(_ROWS, np.random.default_rng(0))
    for start in range(0, _ROWS, _PART):
        search.add(collection, [Row(id=f"r{start + n}", vector=one) for n, one in enumerate(vectors[start : start + _PART])])
    return made


def check_hits(hits: Sequence[Hit], first: str | None = None) -> None:
    """Raise WrongAnswer unless these are K hits, best first, led by the row that must be there."""
    check_scores([hit.score for hit in hits])
    if first is not None and hits[0].id != first:
        raise WrongAnswer(f"the best hit is {hits[0].id}, expected {first}")


def check_scores(scores: Sequence[float]) -> None:
    """Raise WrongAnswer unless these are K cosines that fall."""
    if len(scores) != K:
        raise WrongAnswer(f"got {len(scores)} hits, expected {K}")
    if list(scores) != sorted(scores, reverse=True) or not -1.01 <= scores[-1] <= scores[0] <= 1.01:
        raise WrongAnswer("the scores aren't cosines, best first")
