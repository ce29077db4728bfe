"""clip-retrieval's folders, read and written: ``img_emb``, ``text_emb``, ``metadata``, ``image.index``, ``text.index``."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clip_client.spec import TOWERS, Tower
from clip_search.commands import client, progress
from clip_search.faiss_index import Floats, write_flat

EMBEDDINGS: dict[Tower, str] = {"image": "img_emb", "text": "text_emb"}
_TOGETHER = 2_000
_PARTITION = 1_000_000


def export(arguments: argparse.Namespace) -> int:
    """Write all rows of a collection as clip-retrieval's inference and index commands do."""
    with client(arguments) as search, progress() as bar:
        total = search.stats(arguments.collection)["rows"]
        task = bar.add_task("exporting", total=total)
        rows = []
        for row in search.rows(arguments.collection, vectors=True):
            rows.append(row)
            bar.advance(task)
    for tower in TOWERS:
        if rows and all(f"vector_{tower}" in row for row in rows):
            _write_vectors(arguments.folder, tower, np.stack([row[f"vector_{tower}"] for row in rows]))
    _write_metadata(arguments.folder / "metadata", rows)
    print(f"{len(rows)} rows exported to {arguments.folder}")
    return 0


def _write_vectors(folder: Path, tower: Tower, vectors: Floats) -> None:
    target = folder / EMBEDDINGS[tower]
    target.mkdir(parents=True, exist_ok=True)
    for name, (start, end) in _partitions(len(vectors)):
        np.save(target / f"{EMBEDDINGS[tower]}_{name}.npy", vectors[start:end].astype(np.float16))
    write_flat(folder / f"{tower}.index", vectors)


def _write_metadata(folder: Path, rows: Sequence[dict[str, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    values = [{"image_path": row["source"], "id": row["id"], **row["metadata"]} for row in rows]
    for name, (start, end) in _partitions(len(rows)):
        pq.write_table(pa.Table.from_pylist(values[start:end]), folder / f"metadata_{name}.parquet")


def _partitions(total: int) -> Iterator[tuple[str, tuple[int, int]]]:
    """Numbers padded to their count, so that their order by name is theirs, with their ranges."""
    count = max(1, math.ceil(total / _PARTITION))
    width = len(str(count - 1))
    return ((f"{n:0{width}d}", (n * _PARTITION, (n + 1) * _PARTITION)) for n in range(count))
