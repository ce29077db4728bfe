"""Judges a checkpoint on the held-out Noto drawings: `python examples/emoji/evaluate.py [--json]`; needs no network.

The scoring functions take plain arrays, so embeddings from a server are judged by the same code.
"""

import argparse
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizerFast

FOLDER = Path(__file__).parent
TIE = 1e-5
"""Similarities this close are a tie: some flags are drawn alike to the pixel, and rounding must not choose between them."""


@dataclass(frozen=True)
class Collection:
    """The bundled pictures in the order of captions.parquet, and another set's drawings as queries.

    keywords and held_out hold a tuple for each picture; query_targets holds the position of each query's picture.
    """

    pictures: list[Image.Image]
    captions: list[str]
    keywords: list[tuple[str, ...]]
    held_out: list[tuple[str, ...]]
    queries: list[Image.Image]
    query_targets: np.ndarray


@dataclass(frozen=True)
class KeywordTask:
    """Held-out keyword queries: texts, target [Q], and known bool [Q, N], pictures that also carry the keyword."""

    texts: list[str]
    targets: np.ndarray
    known: np.ndarray


def load_collection(folder: Path = FOLDER) -> Collection:
    """Read the bundled pictures, captions and queries."""
    rows = pq.read_table(folder / "pictures" / "captions.parquet").to_pylist()
    queries = pq.read_table(folder / "queries.parquet").to_pylist()
    position = {row["file_name"]: index for index, row in enumerate(rows)}
    return Collection(
        pictures=[Image.open(folder / "pictures" / row["file_name"]).convert("RGB") for row in rows],
        captions=[row["caption"] for row in rows],
        keywords=[tuple(row["keywords"]) for row in rows],
        held_out=[tuple(row["held_out_keywords"]) for row in rows],
        queries=[Image.open(io.BytesIO(query["image"])).convert("RGB") for query in queries],
        query_targets=np.array([position[query["file_name"]] for query in queries]),
    )


def keyword_task(collection: Collection) -> KeywordTask:
    """Return every held-out pair of keyword and picture; other pictures with the same keyword don't compete."""
    pairs = [(word, target) for target, words in enumerate(collection.held_out) for word in words]
    known = np.array([[word in words for words in collection.keywords] for word, _ in pairs])
    targets = np.array([target for _, target in pairs])
    known[np.arange(len(pairs)), targets] = False
    return KeywordTask([word for word, _ in pairs], targets, known)


def recall(queries: np.ndarray, items: np.ndarray, targets: np.ndarray, k: int, ignored: np.ndarray | None = None) -> float:
    """Return the share of queries whose target is among the k nearest items.

    queries: float32 [Q, D] and items: float32 [N, D], both of unit length; targets: int [Q], positions in items.
    ignored: bool [Q, N], items left out of a query's ranking.
    Of the items that tie with the target, half count as nearer.
    """
    similarity = queries @ items.T  # [Q, N]
    if ignored is not None:
        similarity = np.where(ignored, -np.inf, similarity)
    wanted = np.take_along_axis(similarity, targets[:, None], 1)
    nearer = (similarity > wanted + TIE).sum(1)
    not_farther = (~(similarity < wanted - TIE)).sum(1) - 1  # so that a NaN is never a hit
    return float(((nearer + not_farther) / 2 < k).mean())


def score(
    collection: Collection, pictures: np.ndarray, captions: np.ndarray, queries: np.ndarray, keywords: np.ndarray
) -> dict[str, dict[str, float]]:
    """Return all figures from unit-length embeddings: of the pictures, captions, queries and `keyword_task` texts."""
    every = np.arange(len(pictures))
    task = keyword_task(collection)
    return {
        "text_to_image": {f"r@{k}": recall(captions, pictures, every, k) for k in (1, 5)},
        "image_to_image": {"r@1": recall(queries, pictures, collection.query_targets, 1)},
        "keywords": {"r@10": recall(keywords, pictures, task.targets, 10, ignored=task.known)},
    }


class Towers:
    """A checkpoint folder run by transformers, with Pillow's preprocessing."""

    def __init__(self, checkpoint: Path) -> None:
        self.model = CLIPModel.from_pretrained(checkpoint).eval()
        self.processor = CLIPImageProcessorPil.from_pretrained(checkpoint)
        self.tokenizer = CLIPTokenizerFast.from_pretrained(checkpoint)

    def embed_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Return unit-length embeddings, float32 [N, D]."""
        return in_batches(images, self._image_batch)

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Return unit-length embeddings, float32 [N, D]."""
        return in_batches(texts, self._text_batch)

    def _image_batch(self, images: Sequence[Image.Image]) -> torch.Tensor:
        pixels = self.processor(images, return_tensors="pt")
        return self.model.visual_projection(self.model.vision_model(**pixels).pooler_output)

    def _text_batch(self, texts: Sequence[str]) -> torch.Tensor:
        tokens = self.tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        return self.model.text_projection(self.model.text_model(**tokens).pooler_output)


def in_batches(items: Sequence, embed: Callable[[Sequence], torch.Tensor], size: int = 256) -> np.ndarray:
    """Embed items `size` at a time: float32 [N, D], rows of unit length."""
    with torch.inference_mode():
        embeddings = torch.cat([embed(items[i : i + size]) for i in range(0, len(items), size)])
        return torch.nn.functional.normalize(embeddings, dim=-1).numpy()


def evaluate(checkpoint: Path, collection: Collection) -> dict[str, dict[str, float]]:
    """Return all figures of a checkpoint folder."""
    towers = Towers(checkpoint)
    return score(
        collection,
        pictures=towers.embed_images(collection.pictures),
        captions=towers.embed_texts(collection.captions),
        queries=towers.embed_images(collection.queries),
        keywords=towers.embed_texts(keyword_task(collection).texts),
    )


def main() -> None:
    """Print the figures as a table or as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=FOLDER / "emoji-clip")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = evaluate(options.checkpoint, load_collection())
    print(json.dumps(figures) if options.json else table(figures))


def table(figures: dict[str, dict[str, float]]) -> str:
    """Return the figures, each on a line."""
    lines = [f"{task:16} {name:5} {value:.3f}" for task, values in figures.items() for name, value in values.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
