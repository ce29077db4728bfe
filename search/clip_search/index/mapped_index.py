"""Index whose lists stay in files: built with little memory, opened at once, read as they are searched."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from clip_search.arrays import Floats, Mask, Positions, Rows
from clip_search.index import list_files
from clip_search.index.faiss_index import VectorIndex, nearest_of_blocks
from clip_search.index.faiss_lists import EmptyLists, with_lists
from clip_search.index.kinds import RERANKED, Kind, candidates, lists_for
from clip_search.index.list_files import LISTS, ROWS, STARTS, Buckets, ListVectors, SummedFile
from clip_search.storage.derived_files import Sums

INDEX = "index.faiss"
_BLOCK_ROWS = 16_384  # vectors compared at a time: some ten megabytes
_SCATTERED = 16
"""Vectors of a block, as a share of one in so many, up to which they are read one by one."""


class MappedIndex(VectorIndex):
    """Inverted lists in a file; the hits of short codes are compared again by half-precision vectors, from another file."""

    def __init__(self, folder: Path, kind: Kind) -> None:
        self._starts = np.load(folder / STARTS, allow_pickle=False)
        self._index = with_lists(folder / INDEX, folder / LISTS, self._starts)
        self._vectors = ListVectors(folder, self._starts, int(self._index.d), apart=kind in RERANKED)
        self.kind, self._on_gpu = kind, None

    def search(self, queries: Floats, k: int, effort: int, allowed: Mask | None = None) -> tuple[Floats, Positions]:
        """As that of :class:`VectorIndex`; scores are those of half-precision vectors."""
        if self.kind not in RERANKED:
            return super().search(queries, k, effort, allowed)
        hits = super().search(queries, min(candidates(self.kind, k), len(self)), effort, allowed)[1]
        return self._reranked(queries, hits, k)

    def exact(self, queries: Floats, k: int, allowed: Mask | None = None) -> tuple[Floats, Positions]:
        """As that of :class:`VectorIndex`."""
        if self.kind in RERANKED:
            return nearest_of_blocks(queries, k, self._blocks(allowed))
        return super().exact(queries, k, allowed)

    def exact_of_many(self, queries: Floats, k: int) -> tuple[Floats, Positions]:
        """As that of :class:`VectorIndex`."""
        return nearest_of_blocks(queries, k, self._blocks(None))

    def vectors(self, positions: Positions) -> Floats:
        """Return the vectors at these positions, float32 [n, D], of half precision."""
        return self._vectors.take(positions)

    def _reranked(self, queries: Floats, hits: Positions, k: int) -> tuple[Floats, Positions]:
        """Return the best ``k`` of each query's hits [Q, c], by their vectors."""
        scores = np.full(hits.shape, -np.inf, np.float32)
        for query, row, own in zip(queries, hits, scores, strict=True):
            own[row >= 0] = self._vectors.take(row[row >= 0]) @ query
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(scores, order, 1), np.take_along_axis(hits, order, 1)

    def _blocks(self, allowed: Mask | None) -> Iterator[tuple[Positions, Floats]]:
        """Yield positions with their vectors, those allowed, in the file's order."""
        for start in range(0, len(self), _BLOCK_ROWS):
            end = min(start + _BLOCK_ROWS, len(self))
            chosen = np.arange(start, end) if allowed is None else start + np.flatnonzero(allowed[start:end])
            if 0 < len(chosen) < (end - start) // _SCATTERED:
                yield chosen, self._vectors.take(chosen)
            elif len(chosen):
                vectors = self._vectors.read(start, end)
                yield chosen, vectors if len(chosen) == len(vectors) else vectors[chosen - start]


def build(
    kind: Kind, folder: Path, chunks: Iterable[tuple[Rows, Floats]], sample: Callable[[], Floats], counts: tuple[int, int]
) -> dict[str, Sums]:
    """Write the files of an index into an empty folder; return their checksums.

    Args:
        kind: one of inverted lists.
        folder: that is there.
        chunks: rows with their vectors [n, D].
        sample: gives vectors to train on, which are let go of then.
        counts: rows, about, and threads.
    """
    rows, threads = counts
    lists = EmptyLists.trained(kind, lists_for(rows), sample(), threads)
    buckets: Buckets | None = None
    try:
        for numbers, vectors in chunks:
            size = vectors.shape[1] if kind in RERANKED else 0
            buckets = buckets or Buckets(folder, lists, rows, size)
            own, codes = lists.encoded(vectors)
            buckets.put(own, numbers, codes, vectors)
        assert buckets is not None  # noqa: S101  (there are rows)
        sums, starts, order = buckets.write()
    finally:
        if buckets:
            buckets.close()
    lists.save(folder / INDEX)
    sums[INDEX] = Sums.of(folder / INDEX)
    for name, array in ((STARTS, starts), (ROWS, order)):
        with SummedFile(folder / name) as file:
            np.lib.format.write_array(file, array, allow_pickle=False)
            sums[name] = file.close()
    sums[list_files.BLOCKS] = list_files.write_blocks(folder, sums)
    return sums
