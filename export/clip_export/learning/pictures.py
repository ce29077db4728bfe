"""Vectors of a collection's pictures, and the texts beside them."""

from __future__ import annotations

import heapq
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from clip_client import embedded_files
from clip_client.errors import ContractMismatch, InvalidInput
from clip_client.search import Search
from clip_client.spec import ModelSpec

Floats = npt.NDArray[np.float32]

MOST = 100_000
"""Pictures that are kept: all that were shown, and a sample of the others. 200 MB of vectors of 512 numbers."""

_VECTOR = "vector_image"
_CAPTION = "caption"


@dataclass(frozen=True)
class Pictures:
    """Pictures of a collection.

    Attributes:
        ids: of their rows.
        vectors: float32 [N, D], of unit length.
        sources: paths or URLs, as the rows have them; empty for none.
        captions: texts beside them; empty for none.
    """

    ids: Sequence[str]
    vectors: Floats
    sources: Sequence[str]
    captions: Sequence[str]

    @cached_property
    def numbers(self) -> Mapping[str, int]:
        """Position of each picture, by its id."""
        return {id: number for number, id in enumerate(self.ids)}

    def write(self, path: Path, fingerprint: str) -> None:
        """Write parquet: id, embedding, source, caption."""
        size = self.vectors.shape[1]
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(self.vectors.ravel()), size)
        columns = {"id": pa.array(self.ids, pa.string()), "embedding": vectors}
        columns |= {"source": pa.array(self.sources, pa.string()), _CAPTION: pa.array(self.captions, pa.string())}
        pq.write_table(pa.table(columns).replace_schema_metadata({embedded_files.FINGERPRINT: fingerprint.encode()}), path)

    @classmethod
    def read(cls, path: Path) -> Pictures:
        """Read the file of :meth:`write`."""
        table = pq.read_table(path)
        vectors = table["embedding"].combine_chunks()
        flat = vectors.flatten().to_numpy(zero_copy_only=False)
        texts = (table[name].to_pylist() for name in ("id", "source", _CAPTION))
        ids, sources, captions = texts
        return cls(ids, flat.reshape(len(table), -1).astype(np.float32), sources, captions)


def fetched(search: Search, collection: str, shown: Collection[str], spec: ModelSpec) -> Pictures:
    """Read the pictures of a collection; of a large one all that were shown, and a sample of the others.

    Raises:
        ContractMismatch: if its vectors are of another model.
        InvalidInput: if it has no pictures.
        NotFound: if there is no such collection.
    """
    about = search.stats(collection)
    space = about.get("space") or about["fingerprint"]
    if space != spec.space:
        raise ContractMismatch(
            f"the collection {collection!r} holds vectors of the model {space}, --checkpoint is {spec.fingerprint} "
            f"({spec.checkpoint}): name the checkpoint that made the collection"
        )
    rows = _sampled(_rows(search, collection), shown)
    if not rows:
        raise InvalidInput(f"the collection {collection!r} has no pictures with vectors: add some, clipserve search add")
    ids, vectors, sources, captions = zip(*rows, strict=True)
    return Pictures(ids, _unit(np.stack(vectors)), sources, captions)


def _rows(search: Search, collection: str) -> Iterator[tuple[str, Floats, str, str]]:
    """Yield id, vector, source and caption of each row with a picture's vector."""
    for table in search.arrow_rows(collection, vectors=True):
        names = set(table.column_names)
        if _VECTOR not in names:
            return
        columns = [table[name].to_pylist() if name in names else [None] * len(table) for name in ("id", "source", _CAPTION)]
        for id, source, caption, vector in zip(*columns, table[_VECTOR], strict=True):
            if vector.is_valid:
                yield id, np.asarray(vector.values, np.float32), str(source or ""), caption if isinstance(caption, str) else ""


def _sampled(rows: Iterable[tuple[str, Floats, str, str]], shown: Collection[str]) -> list[tuple[str, Floats, str, str]]:
    """Return the rows that were shown, and of the others those with the smallest digests, in the order of their ids."""
    kept: list[tuple[str, Floats, str, str]] = []
    others: list[tuple[int, str, Any]] = []
    for row in rows:
        if row[0] in shown:
            kept.append(row)
            continue
        entry = (-zlib.crc32(row[0].encode()), row[0], row)
        if len(others) + len(kept) < MOST:
            heapq.heappush(others, entry)
        elif others:
            heapq.heappushpop(others, entry)
    return sorted([*kept, *(row for _, _, row in others)], key=lambda row: row[0])


def _unit(vectors: Floats) -> Floats:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: Floats = (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)
    return scaled
