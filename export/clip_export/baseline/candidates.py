"""Candidates: the pictures that clicks are about, as vectors of either model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from clip_client import embedded_files
from clip_client.errors import InvalidInput
from clip_client.preprocess import preprocess
from clip_client.printable_text import printable
from clip_export import memory
from clip_export.baseline import clicks
from clip_export.baseline.models import Model
from clip_export.evaluation import items, labelled_pictures
from clip_export.evaluation.retrieval import Embeddings

_COLUMNS = {"id": pa.string(), "embedding": pa.list_(pa.float32())}
_EXPECTED = (
    "expected the columns id and embedding, the vectors of the pictures that were shown, as clipserve learn writes them beside "
    "the clicks; or pass --click-pictures FOLDER"
)
_UNIT = 0.01  # of a vector's length, which is 1
_BATCH = 16  # pictures whose pixels are held at once


@dataclass(frozen=True)
class Candidates:
    """Pictures by id, and their vectors.

    Attributes:
        positions: of each id.
        embeddings: float32 [N, D], unit length.
        made_by: fingerprint of the model that made them; empty where the file doesn't tell.
    """

    positions: dict[str, int]
    embeddings: Embeddings
    made_by: str


def stored(path: Path) -> Candidates:
    """Read the vectors beside the clicks.

    Raises:
        InvalidInput: if there is no such file, or it holds something else than unit vectors of one length.
    """
    table = clicks.columns(path, _COLUMNS, {}, _EXPECTED)
    ids, vectors = table["id"].to_pylist(), table["embedding"].combine_chunks()
    lengths = {*vectors.value_lengths().to_pylist()}
    if not ids or len(lengths) > 1 or None in lengths or None in ids:
        raise InvalidInput(f"{path} has {len(ids)} rows with vectors of {sorted(map(str, lengths))} numbers: {_EXPECTED}")
    embeddings = np.asarray(vectors.flatten().to_numpy(zero_copy_only=False), np.float32).reshape(len(ids), -1)
    far = ~(np.abs(np.linalg.norm(embeddings, axis=1) - 1) <= _UNIT)
    if far.any():
        raise InvalidInput(f"{path}: the vector of {printable(ids[int(far.argmax())])!r} isn't of length 1: {_EXPECTED}")
    positions = {id: n for n, id in enumerate(ids)}
    if len(positions) < len(ids):
        raise InvalidInput(f"{path} has {len(ids)} rows of {len(positions)} ids, expected each once: {_EXPECTED}")
    made_by = (table.schema.metadata or {}).get(embedded_files.FINGERPRINT, b"").decode("utf-8", "replace")
    return Candidates(positions, embeddings, made_by)


def files(folder: Path, ids: Sequence[str]) -> dict[str, Path]:
    """Return the file of each id that is one's name in a folder; no id leads out of it.

    Raises:
        InvalidInput: if there is no such folder, or it has none of them.
    """
    if not folder.is_dir():
        raise InvalidInput(f"--click-pictures {folder}: there is no such folder")
    places = {id: folder / labelled_pictures.below(id) for id in ids if "\0" not in id}
    present = {id: path for id, path in places.items() if path.is_file()}
    if not present:
        raise InvalidInput(
            f"--click-pictures {folder} has none of the {len(ids)} pictures that were shown: expected files whose names are "
            f"their ids, {printable(ids[0])!r} say"
        )
    return present


def embedded(places: dict[str, Path], model: Model) -> Candidates:
    """Embed pictures; those that can't be read are left out."""
    encode, ids, parts = model.encoder("image"), list[str](), list[Embeddings]()
    for batch in _batches(places, model):
        ids += batch
        parts.append(encode(np.stack([*batch.values()])))
    del encode
    memory.give_back()
    none = np.empty((0, model.spec.embedding_size), np.float32)
    return Candidates({id: n for n, id in enumerate(ids)}, np.concatenate([none, *parts]), model.spec.fingerprint)


def _batches(places: dict[str, Path], model: Model) -> Iterator[dict[str, npt.NDArray[np.uint8]]]:
    """Yield pixels uint8 [S, S, 3] by id, some at a time."""
    batch = {}
    for id, path in places.items():
        try:
            batch[id] = preprocess(items.content(path), model.spec)
        except InvalidInput:
            continue
        if len(batch) == _BATCH:
            yield batch
            batch = {}
    if batch:
        yield batch
