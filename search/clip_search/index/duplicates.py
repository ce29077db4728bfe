"""Near duplicates: each vector's nearest, by an index made for it; those that are near enough hang together in groups."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from clip_search.arrays import Floats, Positions, Rows
from clip_search.index.faiss_index import VectorIndex
from clip_search.index.kinds import Kind, training_rows
from clip_search.thread_priority import step_back

_EXACT_ROWS = 10_000  # compared each with each: a second for a core
_NEIGHBOURS = 32  # of a vector; larger groups hang together through them
_PROBES = 8  # lists searched for a vector's neighbours: very near ones lie in its own, or in the next
_TRAINING_SHARE = 4  # a quarter of the usual sample: two vectors that are near fall into near lists anyway
_MEMORY_BYTES = 2**30  # bounds the sample
_CHUNK = 1_024  # vectors at a time
_ROUNDING = 0.0005  # of cosines of half-precision vectors: a picture is as near as 1 to itself

Vectors = Callable[[Rows], Floats]  # source of vectors [n, D] by row


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Nearest rows of each row."""

    rows: Rows  # int64 [n], ascending
    scores: Floats  # cosines [n, k]
    others: npt.NDArray[np.int32]  # positions [n, k] of the nearest, -1 for none
    checked: int  # rows whose neighbours were looked for, the last ones

    def groups(self, threshold: float) -> list[Rows]:
        """Return the groups of two and more rows that hang together at this cosine, each ascending, the largest first."""
        near = (self.scores >= threshold - _ROUNDING) & (self.others >= 0)
        left, place = np.nonzero(near)
        return _grouped(self.rows, joined(len(self.rows), left, self.others[left, place].astype(np.int64)))


def neighbours(vectors: Vectors, rows: Rows, *, threads: int, time_s: float) -> Neighbours:
    """Look for the nearest of each row, the last rows first, for ``time_s`` from when the index is made.

    Threads of a low priority do the work.

    Args:
        rows: ascending, each with a vector.
    """
    count = min(_NEIGHBOURS, len(rows))
    scores, others = np.zeros((len(rows), count), np.float32), np.full((len(rows), count), -1, np.int32)
    if len(rows) < 2:
        return Neighbours(rows, scores, others, len(rows))
    with ThreadPoolExecutor(threads, initializer=step_back) as pool:
        index = pool.submit(_index, vectors, rows, threads).result()
        deadline = time.monotonic() + time_s

        def look(start: int) -> int:
            if time.monotonic() > deadline:
                return 0
            own = np.arange(start, min(start + _CHUNK, len(rows)))
            scores[own], nearest = index.search(index.vectors(own), count, _PROBES)
            others[own] = np.where(nearest == own[:, None], -1, nearest)
            return len(own)

        checked = sum(pool.map(look, reversed(range(0, len(rows), _CHUNK))))
    return Neighbours(rows, scores, others, checked)


def _index(vectors: Vectors, rows: Rows, threads: int) -> VectorIndex:
    kind: Kind = "ivf" if len(rows) > _EXACT_ROWS else "flat"
    size = vectors(rows[:1]).shape[1]
    drawn = max(1, training_rows(kind, len(rows), size, _MEMORY_BYTES) // _TRAINING_SHARE)
    sample = vectors(np.sort(np.random.default_rng(0).choice(rows, drawn, replace=False)))
    return VectorIndex.build(kind, size, len(rows), _chunks(vectors, rows), sample, threads)


def _chunks(vectors: Vectors, rows: Rows) -> Iterator[Floats]:
    for start in range(0, len(rows), _CHUNK):
        yield vectors(rows[start : start + _CHUNK])


def joined(count: int, left: Positions, right: Positions) -> Positions:
    """Return the least position of each one's connected component, int64 [count], of a graph with edges left-right.

    Labels go down along edges and are followed to their own labels (Shiloach, Vishkin 1982): few rounds, whatever the graph.
    """
    label = np.arange(count)
    while np.any(label[left] != label[right]):
        least = np.minimum(label[left], label[right])
        for ends in (label[left], label[right]):
            np.minimum.at(label, ends, least)
        while np.any(label != (further := label[label])):
            label = further
    return label


def _grouped(rows: Rows, label: Positions) -> list[Rows]:
    """Return the rows of each label that several have, the largest group first."""
    several = np.flatnonzero(np.bincount(label, minlength=len(label))[label] > 1)
    if not len(several):
        return []
    order = several[np.argsort(label[several], kind="stable")]
    return sorted(np.split(rows[order], np.flatnonzero(np.diff(label[order])) + 1), key=len, reverse=True)
