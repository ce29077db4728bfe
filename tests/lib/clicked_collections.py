"""A collection of random pictures, and feedback of people who each look for one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import held_out_clicks
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clip_client import Search

SHOWN = 12
TEXTS = [f"{how} {thing}" for thing in held_out_clicks.TEXTS[:10] for how in ("my", "a", "the", "one", "some", "no")]


@dataclass(frozen=True)
class Clicked:
    """A collection, its vectors float32 [N, D], and the picture that people want for each text."""

    name: str
    vectors: np.ndarray
    wanted: dict[str, str]


def make(search: Search, name: str, checkpoint: Path, fingerprint: str, count: int = 120) -> Clicked:
    """Make the collection, with captions; people want one of the first pictures that the checkpoint gives."""
    texts = held_out_clicks.embedded(checkpoint, TEXTS)
    vectors = held_out_clicks.pictures(count, texts.shape[1])
    search.create(name, dimension=texts.shape[1], fingerprint=fingerprint)
    rows = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), texts.shape[1])
    ids, captions = [f"p{n}" for n in range(count)], [f"drawing {n}" for n in range(count)]
    search.add_arrow(name, pa.table({"id": ids, "vector_image": rows, "caption": captions}), fingerprint=fingerprint)
    draw = np.random.default_rng(0)
    nearest = np.argsort(-texts @ vectors.T, axis=1)
    return Clicked(name, vectors, {text: f"p{nearest[n, draw.integers(2, SHOWN)]}" for n, text in enumerate(TEXTS)})


def rows(clicked: Clicked, checkpoint: Path, repeats: int = 4) -> list[dict[str, Any]]:
    """Feedback: for each text as often, what the checkpoint shows, and the wanted picture chosen."""
    texts = held_out_clicks.embedded(checkpoint, TEXTS)
    nearest = np.argsort(-texts @ clicked.vectors.T, axis=1)[:, :SHOWN]
    shown = {text: [f"p{n}" for n in nearest[row]] for row, text in enumerate(TEXTS)}
    return [row(text, shown[text], [shown[text].index(clicked.wanted[text])]) for _ in range(repeats) for text in TEXTS]


def row(text: str | None, shown: Sequence[str] | None, chosen: Sequence[int] | None, **fields: Any) -> dict[str, Any]:
    """A row of a feedback export."""
    plain = {"query_id": "q", "text": text, "shown": shown, "chosen": chosen, "marked_wrong": [], "model": "", "space": ""}
    return {**plain, **fields}


def table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    """Rows with the types of an export."""
    positions, ids = pa.list_(pa.int32()), pa.list_(pa.string())
    names = ("query_id", "text", "shown", "chosen", "marked_wrong", "model", "space")
    types = [pa.string(), pa.string(), ids, positions, positions, pa.string(), pa.string()]
    return pa.Table.from_pylist([*rows], pa.schema(list(zip(names, types, strict=True))))


def write(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """Write a feedback export."""
    pq.write_table(table(rows), path)
    return path
