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

from clip_client.errors import InvalidInput
from clip_client.search import Row
from clip_client.spec import TOWERS, Tower
from clip_search.commands import batches, client, ensure, progress
from clip_search.faiss_index import Floats, file_vectors, write_flat
from clip_search.schema import RESERVED

EMBEDDINGS: dict[Tower, str] = {"image": "img_emb", "text": "text_emb"}
_TOGETHER = 2_000
_PARTITION = 1_000_000


def import_(arguments: argparse.Namespace) -> int:
    """Add the vectors and metadata of a folder; a row's id is its number there."""
    vectors = {tower: found for tower in TOWERS if (found := _vectors(arguments.folder, tower)) is not None}
    if not vectors:
        raise InvalidInput(f"no vectors in {arguments.folder}: expected img_emb, text_emb, image.index or text.index")
    counts = {len(found) for found in vectors.values()}
    metadata = _metadata(arguments.folder / "metadata")
    if len(counts) > 1 or (metadata and counts != {len(metadata)}):
        raise InvalidInput(f"{arguments.folder} has {sorted(counts)} vectors, {len(metadata)} metadata: the folder isn't whole")
    total = counts.pop()
    with client(arguments) as search, progress() as bar:
        size = next(iter(vectors.values())).shape[1]
        ensure(search, arguments.collection, dimension=size, fingerprint=arguments.fingerprint or None)
        task = bar.add_task("importing", total=total)
        for numbers in batches(range(total), _TOGETHER):
            rows = [_row(n, vectors, metadata) for n in numbers]
            search.add(arguments.collection, rows, on_conflict="skip", fingerprint=arguments.fingerprint)
            bar.advance(task, len(numbers))
    print(f"{total} rows imported into {arguments.collection}")
    return 0


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


def _vectors(folder: Path, tower: Tower) -> Floats | None:
    """float32 [N, D], from the partitions, else from the index."""
    parts = sorted((folder / EMBEDDINGS[tower]).glob("*.npy"))
    if parts:
        return np.concatenate([np.load(part, allow_pickle=False).astype(np.float32) for part in parts])
    index = folder / f"{tower}.index"
    return file_vectors(index) if index.is_file() else None


def _metadata(folder: Path) -> list[dict[str, Any]]:
    return [row for part in sorted(folder.glob("*.parquet")) for row in pq.read_table(part).to_pylist()]


def _row(n: int, vectors: dict[Tower, Floats], metadata: Sequence[dict[str, Any]]) -> Row:
    values = metadata[n] if metadata else {}
    own = {name: value for name, value in values.items() if name not in RESERVED and _plain(value)}
    source = values.get("image_path") or values.get("url")
    ready = {tower: found[n] for tower, found in vectors.items()}
    return Row(id=str(n), vector=ready.get("image"), text_vector=ready.get("text"), metadata=own, source=source)


def _plain(value: Any) -> bool:
    return isinstance(value, str | int | bool) or (isinstance(value, float) and math.isfinite(value))


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
