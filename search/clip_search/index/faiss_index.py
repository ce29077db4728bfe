"""faiss indexes: vectors in, positions and inner products of the nearest out."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from clip_client.errors import InvalidInput
from clip_search.arrays import Floats, Mask, Positions
from clip_search.index.faiss_lists import inverted
from clip_search.index.kinds import INVERTED, Kind, lists_for

_LOG = logging.getLogger(__name__)
_LINKS, _BUILD_EFFORT = 24, 100  # of a graph: neighbours a vector, candidates while it is built

_BLOCK_ROWS = 16_384  # vectors compared at a time: some ten megabytes
_PIECE_BYTES = 2**20  # a checksum's block is filled by one call
_GPU_MOST = 2048  # hits, and lists probed, that faiss's GPU indexes can select at most


class VectorIndex:
    """Vectors of unit length, numbered from 0 in the order in which they came."""

    def __init__(self, index: Any, kind: Kind) -> None:
        self._index = index
        self.kind: Kind = kind
        self._on_gpu = _OnGpu.of(index, kind)

    @classmethod
    def build(cls, kind: Kind, size: int, rows: int, chunks: Iterable[Floats], sample: Floats, threads: int) -> VectorIndex:
        """Build over ``chunks``, float32 [n, size] each, ``rows`` in all; ``sample`` [m, size] trains what needs training."""
        faiss.omp_set_num_threads(threads)  # of this thread only
        index = _empty(kind, size, rows)
        if not index.is_trained:
            index.train(np.ascontiguousarray(sample))
        for chunk in chunks:
            index.add(np.ascontiguousarray(chunk))
        return cls(index, kind)

    @classmethod
    def load(cls, path: Path, kind: Kind, *, mapped: bool = False) -> VectorIndex:
        """Read what :meth:`save` wrote, or let an exact index stay in its file; raise RuntimeError for a broken one."""
        return cls(faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC if mapped else 0), kind)

    def save(self, path: Path) -> None:
        """Write to a file."""
        faiss.write_index(self._index, str(path))

    def write(self, write: Callable[[bytes], int]) -> None:
        """Hand over what :meth:`save` would write, piece by piece."""
        faiss.write_index(self._index, faiss.PyCallbackIOWriter(write, _PIECE_BYTES))

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def size(self) -> int:
        """Numbers in a vector."""
        return int(self._index.d)

    def search(self, queries: Floats, k: int, effort: int, allowed: Mask | None = None) -> tuple[Floats, Positions]:
        """Return the nearest to each query [Q, D]: inner products and positions, both [Q, k], best first; -1 fills up.

        Args:
            effort: one of ``EFFORTS`` of the kind, or anything between.
            allowed: bool [N], the positions that count; all if None.
        """
        if self._on_gpu and allowed is None and max(k, effort) <= _GPU_MOST:
            return self._on_gpu.search(queries, k, effort)
        selector, _keep = _selector(allowed)
        return self._searched(self._index, queries, k, self._parameters(effort, selector))

    def exact(self, queries: Floats, k: int, allowed: Mask | None = None) -> tuple[Floats, Positions]:
        """As :meth:`search`, over every vector that is allowed."""
        selector, _keep = _selector(allowed)
        if self.kind in INVERTED:
            return self._searched(self._index, queries, k, self._parameters(self._index.nlist, selector))
        storage = self._index.storage if self.kind == "hnsw" else self._index
        return self._searched(storage, queries, k, faiss.SearchParameters(sel=selector))

    def exact_of_many(self, queries: Floats, k: int) -> tuple[Floats, Positions]:
        """As :meth:`exact` of all vectors, by matrix products, which for many queries are far faster."""
        starts = range(0, len(self), _BLOCK_ROWS)
        ranges = (np.arange(start, min(start + _BLOCK_ROWS, len(self))) for start in starts)
        return nearest_of_blocks(queries, k, ((positions, self.vectors(positions)) for positions in ranges))

    def vectors(self, positions: Positions) -> Floats:
        """Return the vectors at these positions, float32 [n, D], as precise as the kind keeps them."""
        return np.asarray(self._index.reconstruct_batch(np.ascontiguousarray(positions, np.int64)), np.float32)

    def _parameters(self, effort: int, selector: Any) -> Any:
        if self.kind == "hnsw":
            return faiss.SearchParametersHNSW(efSearch=effort, sel=selector)
        if self.kind in INVERTED:
            return faiss.SearchParametersIVF(nprobe=effort, sel=selector)
        return faiss.SearchParameters(sel=selector)

    def _searched(self, index: Any, queries: Floats, k: int, parameters: Any) -> tuple[Floats, Positions]:
        faiss.omp_set_num_threads(1)  # requests run side by side; a thread team for one query costs more than it gives
        return index.search(np.ascontiguousarray(queries, np.float32), k, params=parameters)  # type: ignore[no-any-return]


class _OnGpu:
    """Copy of an index on the first GPU, if faiss was built for one; used by one thread at a time.

    faiss's indexes on a GPU pass over selectors without a word and give no vectors back: that stays the original's.
    """

    def __init__(self, index: Any, kind: Kind) -> None:
        self._resources = faiss.StandardGpuResources()  # memory of the GPU, to be kept as long as the index
        self._index = faiss.index_cpu_to_gpu(self._resources, 0, index)
        self._kind = kind
        self._lock = threading.Lock()

    @classmethod
    def of(cls, index: Any, kind: Kind) -> _OnGpu | None:
        """None without a GPU, for a graph, which GPUs don't search, and where its memory is short."""
        if kind == "hnsw" or not faiss.get_num_gpus():
            return None
        try:
            return cls(index, kind)
        except RuntimeError as problem:
            _LOG.warning("an index of %d vectors stays off the GPU: %s", index.ntotal, problem)
            return None

    def search(self, queries: Floats, k: int, effort: int) -> tuple[Floats, Positions]:
        """As that of :class:`VectorIndex`, over all vectors."""
        parameters = None if self._kind == "flat" else faiss.SearchParametersIVF(nprobe=effort)
        with self._lock:
            return self._index.search(np.ascontiguousarray(queries, np.float32), k, params=parameters)  # type: ignore[no-any-return]


def nearest(query: Floats, vectors: Floats, k: int, allowed: Mask | None = None) -> tuple[Floats, Positions]:
    """Compare a query [D] with vectors [N, D]: inner products and positions of the nearest, at most ``k``, best first.

    In this thread alone: numpy's matrix product would start another, which goes on spinning for a core of its own.

    Args:
        allowed: bool [N], the positions that count; all if None. Where they stand is read, the vectors aren't copied.
    """
    k = min(k, len(vectors) if allowed is None else int(np.count_nonzero(allowed)))
    scores, positions = np.empty(k, np.float32), np.empty(k, np.int64)
    selector, _keep = _selector(allowed)
    query, pointer = np.ascontiguousarray(query, np.float32), faiss.swig_ptr
    count, size = vectors.shape
    faiss.knn_inner_product(pointer(query), pointer(vectors), size, 1, count, k, pointer(scores), pointer(positions), selector)
    real = positions >= 0  # a vector that isn't finite is nobody's neighbour
    return scores[real], positions[real]


def nearest_of_blocks(queries: Floats, k: int, blocks: Iterable[tuple[Positions, Floats]]) -> tuple[Floats, Positions]:
    """Compare queries [Q, D] with positions and their vectors, block by block: inner products and positions, both [Q, k]."""
    faiss.omp_set_num_threads(1)
    best = faiss.ResultHeap(len(queries), k, keep_max=True)
    for positions, vectors in blocks:
        count = min(k, len(vectors))
        scores, places = faiss.knn(queries, vectors, count, metric=faiss.METRIC_INNER_PRODUCT)
        best.add_result(scores, np.ascontiguousarray(positions[places]))
    best.finalize()
    return best.D, best.I


_COUNT_AT = 8  # behind the kind of index (4 bytes) and D (4 bytes)


def stored_vectors(path: Path) -> Any:
    """Return another program's index with its ``reconstruct_n``; raise InvalidInput if it isn't one, or keeps no vectors."""
    try:
        index = faiss.read_index(str(path))
        if isinstance(inverted := faiss.try_extract_index_ivf(index), faiss.IndexIVF):
            inverted.make_direct_map()
        index.reconstruct_n(0, min(1, index.ntotal))
    except RuntimeError as problem:
        raise InvalidInput(f"{path} can't be used ({problem}): import the embeddings' folder instead") from problem
    return index


class FlatFile:
    """Exact index file of vectors [N, D] for other programs, written as the vectors come."""

    def __init__(self, path: Path, size: int) -> None:
        self._size, self._rows = size, 0
        self._file = path.open("wb")
        self._file.write(_flat_head(size, 0))

    def add(self, vectors: Floats) -> None:
        """Append vectors [n, D]."""
        self._file.write(np.ascontiguousarray(vectors, "<f4").tobytes())
        self._rows += len(vectors)

    def close(self) -> None:
        """Complete the file."""
        with self._file as file:
            file.seek(0)
            file.write(_flat_head(self._size, self._rows))


def write_flat(vectors: Floats, write: Callable[[Any], int]) -> None:
    """Hand over an exact index of vectors [N, D], as :meth:`VectorIndex.write` does, without a copy of them."""
    vectors = np.ascontiguousarray(vectors, "<f4")
    write(_flat_head(vectors.shape[1], len(vectors)))
    write(vectors.data.cast("B"))


def _flat_head(size: int, rows: int) -> bytes:
    """Return what stands before the vectors [rows, size] of an exact index: faiss's of none, with both counts corrected.

    One is that of the vectors, the other that of their numbers.
    """
    head = bytearray(faiss.serialize_index(faiss.IndexFlatIP(size)).tobytes())
    for place, count in ((_COUNT_AT, rows), (len(head) - 8, rows * size)):
        head[place : place + 8] = count.to_bytes(8, "little")
    return bytes(head)


def _empty(kind: Kind, size: int, rows: int) -> Any:
    inner_product = faiss.METRIC_INNER_PRODUCT
    if kind == "flat":
        return faiss.IndexFlatIP(size)
    if kind == "hnsw":
        index = faiss.IndexHNSWSQ(size, faiss.ScalarQuantizer.QT_fp16, _LINKS, inner_product)
        index.hnsw.efConstruction = _BUILD_EFFORT
        return index
    index = inverted(kind, size, lists_for(rows), residual=True)
    index.set_direct_map_type(faiss.DirectMap.Array)
    return index


def _selector(allowed: Mask | None) -> tuple[Any, Any]:
    """Return faiss's form of a mask, and the array that must outlive it: faiss keeps a bare pointer."""
    if allowed is None:
        return None, None
    bits = np.packbits(allowed, bitorder="little")
    return faiss.IDSelectorBitmap(bits), bits
