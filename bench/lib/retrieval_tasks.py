"""Retrieval tasks over labelled pictures: queries, items, and the items that each query should find."""

import io
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from PIL import Image

from clip_client.preprocess import preprocess
from clip_export.evaluation import labelled_pictures
from clip_export.evaluation.labelled_pictures import Picture
from lib.checkpoints import Loaded

QUERIES_PARQUET = "queries.parquet"  # file beside the bundled pictures: another set's drawings of the same things

LABELS = {"one label": 1, "two labels": 2, "three labels": 3}
CROP = 0.7
"""Share of each edge that is kept: without other pictures of the same things, a picture's middle should find the whole."""

Inputs = npt.NDArray[Any]  # input of an encoder: pixels uint8 [N, S, S, 3] or tokens int32 [N, L]


@dataclass(frozen=True)
class Task:
    """Queries and items by the names of their inputs, and the relevant items of each query: bool [Q, N]."""

    queries: str
    items: str
    relevant: npt.NDArray[np.bool_]


def read(folder: Path, checkpoint: Loaded, seed: int) -> tuple[dict[str, Inputs], dict[str, Task]]:
    """Return (inputs by name, tasks by name) of the part of a folder that int8 isn't calibrated with.

    Raises:
        SystemExit: if a picture has no caption.
    """
    pictures, _ = labelled_pictures.split(labelled_pictures.read(folder), folder)
    if not all(picture.captions for picture in pictures):
        raise SystemExit(
            f"not all pictures in {folder} have captions: pass --photos with a captions.json, as the export takes it"
        )
    files = [picture.file.read_bytes() for picture in pictures]
    owners = np.array([n for n, picture in enumerate(pictures) for _ in picture.captions])
    same = np.eye(len(pictures), dtype=bool)
    texts, tasks = {"captions": [text for picture in pictures for text in picture.captions]}, {}
    for name, (queries, relevant) in labelled_queries(labels(folder, pictures), seed).items():
        texts[name], tasks[f"{name} → image"] = queries, Task(name, "pictures", relevant)
    tasks |= {"image → caption": Task("pictures", "captions", np.arange(len(pictures))[:, None] == owners)}
    tasks |= {"image → image": Task("others", "pictures", same)}
    images = {"pictures": files, "others": others(folder, pictures, files)}
    return pixels(images, checkpoint) | tokens(texts, checkpoint), tasks


def labels(folder: Path, pictures: Sequence[Picture]) -> list[tuple[str, ...]]:
    """Return each picture's keywords where a parquet file has them, else its captions."""
    path = folder / "captions.parquet"
    if not path.exists() or "keywords" not in pq.read_schema(path).names:
        return [picture.captions for picture in pictures]
    rows = pq.read_table(path, columns=["file_name", "keywords"]).to_pylist()
    keywords = {row["file_name"]: tuple(row["keywords"]) for row in rows}
    return [keywords[picture.file.name] for picture in pictures]


def labelled_queries(labels: Sequence[Sequence[str]], seed: int) -> dict[str, tuple[list[str], npt.NDArray[np.bool_]]]:
    """Return one, two and three labels of each picture that has three, as one text, and the pictures that carry them all."""
    draw, most = random.Random(seed), max(LABELS.values())
    drawn = [draw.sample(list(each), most) for each in labels if len(each) >= most]
    carried = [set(each) for each in labels]
    return {
        name: (
            [" ".join(each[:count]) for each in drawn],
            np.array([[carries.issuperset(each[:count]) for carries in carried] for each in drawn]),
        )
        for name, count in LABELS.items()
    }


def others(folder: Path, pictures: Sequence[Picture], files: Sequence[bytes]) -> list[bytes]:
    """Return another encoded picture of the same thing for each."""
    path = folder.parent / QUERIES_PARQUET
    if not path.exists():
        return [middle(file) for file in files]
    drawn = {row["file_name"]: row["image"] for row in pq.read_table(path).to_pylist()}
    return [drawn[picture.file.name] for picture in pictures]


def middle(encoded: bytes) -> bytes:
    """Return the middle of a picture, encoded again."""
    image = Image.open(io.BytesIO(encoded)).convert("RGB")
    width, height, edge = image.width, image.height, (1 - CROP) / 2
    file = io.BytesIO()
    image.crop((round(edge * width), round(edge * height), round((1 - edge) * width), round((1 - edge) * height))).save(
        file, "JPEG", quality=80
    )
    return file.getvalue()


def pixels(images: Mapping[str, Sequence[bytes]], checkpoint: Loaded) -> dict[str, Inputs]:
    """Preprocess all pictures."""
    return {name: np.stack([preprocess(file, checkpoint.spec) for file in files]) for name, files in images.items()}


def tokens(texts: Mapping[str, Sequence[str]], checkpoint: Loaded) -> dict[str, Inputs]:
    """Tokenise all texts."""
    return {name: checkpoint.tokenizer([text.encode() for text in each])[0] for name, each in texts.items()}
