"""Clustered vectors, made in pieces, and queries that lie as far from them as texts do from pictures."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

Floats = npt.NDArray[np.float32]

PIECE = 100_000  # vectors in a piece, and in a file
_CLUSTER = 100  # vectors in a cluster, about
_SPREAD = 0.8  # of a vector about its centre, which makes cosines of 0.6 within a cluster
_NEARNESS = 0.3  # cosine of a query and its cluster's centre, as of a text and its picture in CLIP
_BLOCK = 20_000


@dataclass(frozen=True)
class World:
    """Vectors [rows, size] that are made when they are asked for."""

    rows: int
    size: int

    def pieces(self) -> Iterator[Floats]:
        """Yield all vectors, float32 [n, size] of unit length."""
        centres = self._centres()
        for start in range(0, self.rows, PIECE):
            draw = np.random.default_rng([1, start])
            own = centres[draw.integers(0, len(centres), min(PIECE, self.rows - start))]
            yield _unit(own + _SPREAD * draw.standard_normal(own.shape, np.float32))

    def queries(self, count: int, seed: int = 0) -> Floats:
        """Return queries near clusters, float32 [count, size]."""
        draw, centres = np.random.default_rng([2, seed]), self._centres()
        own = _unit(centres[draw.integers(0, len(centres), count)])
        away = _unit(draw.standard_normal(own.shape, np.float32))
        return _unit(_NEARNESS * own + np.float32(np.sqrt(1 - _NEARNESS**2)) * away)

    def nearest(self, queries: Floats, k: int) -> npt.NDArray[np.int64]:
        """Return the positions of the true nearest of each query, [Q, k]."""
        best, start = faiss.ResultHeap(len(queries), k, keep_max=True), 0
        for piece in self.pieces():
            for first in range(0, len(piece), _BLOCK):
                block = piece[first : first + _BLOCK]
                scores, positions = faiss.knn(queries, block, k, metric=faiss.METRIC_INNER_PRODUCT)
                best.add_result(scores, positions + start + first)
            start += len(piece)
        best.finalize()
        return np.asarray(best.I)

    def write(self, folder: Path) -> None:
        """Write the vectors with captions as clip-retrieval does, a file of each kind a piece."""
        embeddings, metadata = folder / "img_emb", folder / "metadata"
        for made in (embeddings, metadata):
            made.mkdir(parents=True)
        digits, start = len(str(self.rows // PIECE)), 0
        for number, piece in enumerate(self.pieces()):
            name = f"{number:0{digits}d}"
            np.save(embeddings / f"img_emb_{name}.npy", piece.astype(np.float16))
            captions = [f"picture {n}" for n in range(start, start + len(piece))]
            pq.write_table(pa.table({"caption": captions}), metadata / f"metadata_{name}.parquet")
            start += len(piece)

    def _centres(self) -> Floats:
        count = max(1, self.rows // _CLUSTER)
        return np.random.default_rng(0).standard_normal((count, self.size), np.float32)


def _unit(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)
