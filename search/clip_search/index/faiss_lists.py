"""faiss's inverted lists: made, trained, packed, and read from files. Beside ``faiss_index`` no other module imports faiss."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from clip_search.arrays import Codes, Floats, Positions
from clip_search.index.kinds import NUMBERED_BYTES, PIECES, Kind, pieces

_TRAINING_ROUNDS, _MOST_ROWS_PER_LIST = 8, 39  # of k-means, and the rows above which it would draw fewer


def inverted(kind: Kind, size: int, lists: int, *, residual: bool) -> Any:
    """Return an empty faiss index of inverted lists, to be trained; with ``residual`` it encodes differences to the centres."""
    inner_product = faiss.METRIC_INNER_PRODUCT
    if kind in PIECES:
        index = faiss.IndexIVFPQFastScan(faiss.IndexFlatIP(size), size, lists, pieces(kind, size), 4, inner_product)
        index.by_residual = False  # rounding the looked-up products would cost more: those with the lists stand beside them
    else:
        half = faiss.ScalarQuantizer.QT_fp16
        index = faiss.IndexIVFScalarQuantizer(faiss.IndexFlatIP(size), size, lists, half, inner_product, residual)
    index.cp.niter, index.cp.min_points_per_centroid = _TRAINING_ROUNDS, 1
    index.cp.max_points_per_centroid = _MOST_ROWS_PER_LIST
    return index


class EmptyLists:
    """Trained inverted lists that tell the list and the code of a vector; the vectors lie elsewhere."""

    def __init__(self, index: Any, kind: Kind) -> None:
        self._index, self._kind = index, kind
        self.count, self.code_bytes = int(index.nlist), int(index.code_size)

    @classmethod
    def trained(cls, kind: Kind, lists: int, sample: Floats, threads: int) -> EmptyLists:
        """Train on a sample [m, D]."""
        faiss.omp_set_num_threads(threads)  # of this thread only
        index = inverted(kind, sample.shape[1], min(lists, len(sample)), residual=False)
        index.train(np.ascontiguousarray(sample))
        return cls(index, kind)

    def encoded(self, vectors: Floats) -> tuple[Positions, Codes]:
        """Return the list of each vector [n, D], int64 [n], and its code [n, code_bytes]."""
        vectors = np.ascontiguousarray(vectors, np.float32)
        lists = np.ascontiguousarray(self._index.quantizer.search(vectors, 1)[1][:, 0])
        if self._kind == "ivf":
            return lists, vectors.astype(np.float16).view(np.uint8)
        return lists, self._index.pq.compute_codes(vectors)

    @property
    def block(self) -> int:
        """Number of vectors whose codes lie among each other in lists."""
        return _block(self._index)

    def packed(self, codes: Codes) -> Codes:
        """Return codes [n, code_bytes] as they lie in a list, which the last block of a list fills up with zeros."""
        if self.block == 1:
            return codes
        return _packed(np.pad(codes, ((0, -len(codes) % self.block), (0, 0))).reshape(-1, self.block, self.code_bytes))

    def save(self, path: Path) -> None:
        """Write to a file, without a vector."""
        faiss.write_index(self._index, str(path))


def with_lists(path: Path, lists: Path, starts: Positions) -> Any:
    """Return the index of :meth:`EmptyLists.save` with the lists of a file, which stay there.

    Args:
        starts: int64 [lists + 1], number of each list's first vector; each list has its codes, then its numbers.
    """
    index = faiss.read_index(str(path))
    inside = faiss.OnDiskInvertedLists()
    inside.nlist, inside.code_size, inside.filename = index.nlist, index.code_size, str(lists)
    inside.read_only, inside.prefetch_nthread = True, 0  # threads for each search cost more than they fetch
    inside.totsize = lists.stat().st_size
    one, block = faiss.OnDiskOneList(), _block(index)
    one.offset = 0
    for size in np.diff(starts).tolist():
        one.size, one.capacity = size, size + -size % block
        inside.lists.push_back(one)
        one.offset += one.capacity * index.code_size + size * NUMBERED_BYTES
    inside.do_mmap()
    index.replace_invlists(inside, True)  # the index owns them
    inside.this.disown()
    index.ntotal = int(starts[-1])
    return index


def _block(index: Any) -> int:
    return int(index.bbs) if isinstance(index, faiss.IndexIVFFastScan) else 1


def _packed(blocks: Codes) -> Codes:
    """Return the codes of blocks [n, 32, code_bytes] as faiss's registers take them, uint8 [n, code_bytes, 32].

    Each byte of all 32 codes becomes 32 bytes, whose halves faiss orders: its own packer tells how.
    """
    by_byte = blocks.transpose(0, 2, 1)
    halves = np.stack([by_byte & 15, by_byte >> 4], axis=3).reshape(*by_byte.shape[:2], -1)[:, :, _order()]
    return np.asarray(halves[:, :, 0::2] | halves[:, :, 1::2] << 4, np.uint8)


@cache
def _order() -> Positions:
    """Return the half byte that goes to each place of a packed block of codes of one byte, int64 [64]."""
    packer = faiss.IndexIVFPQFastScan(faiss.IndexFlatIP(2), 2, 1, 2, 4).get_CodePacker()
    order = np.empty(2 * packer.nvec, np.int64)
    for number in range(2 * packer.nvec):
        block = np.zeros((1, packer.block_size), np.uint8)
        packer.pack_1(np.array([15 << 4 * (number % 2)], np.uint8), number // 2, block)
        order[np.stack([block[0] & 15, block[0] >> 4], axis=1).ravel() > 0] = number
    return order
