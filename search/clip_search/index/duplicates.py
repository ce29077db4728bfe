"""Groups of near duplicates: each vector's nearest, by an index made for it, and joined where they are near enough."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from clip_search.arrays import Floats, Positions, Rows
from clip_search.index.faiss_index import Kind, VectorIndex
from clip_search.thread_priority import step_back

_EXACT_ROWS = 10_000  # compared each with each: a second for a core
_NEIGHBOURS = 32  # of a vector; larger groups hang together through them
_PROBES = 12  # lists searched for a vector's neighbours: very near ones lie in its own, or in the next
_CHUNK = 1_024  # vectors at a time
_ROUNDING = 0.0005  # of cosines of half-precision vectors: a picture is as near as 1 to itself

Vectors = Callable[[Rows], Floats]  # source of vectors [n, D] by row
Edges = tuple[Positions, Positions]  # pairs of near vectors


@dataclass(frozen=True)
class Groups:
    """Groups of rows, each ascending, the largest first."""

    rows: list[Rows]
    checked: int  # rows whose neighbours were looked for


def near_duplicates(vectors: Vectors, rows: Rows, threshold: float, *, threads: int, time_s: float) -> Groups:
    """Return groups of two and more rows that hang together by cosines of at least ``threshold``.

    Threads of a low priority do the work. It ends after ``time_s``, with what was checked by then.

    Args:
        rows: ascending, each with a vector.
    """
    if len(rows) < 2:
        return Groups([], len(rows))
    deadline = time.monotonic() + time_s
    with ThreadPoolExecutor(threads, initializer=step_back) as pool:
        index = pool.submit(_index, vectors, rows, threads).result()

        def edges(start: int) -> Edges | None:
            return None if time.monotonic() > deadline else _near(index, start, threshold)

        parts = [part for part in pool.map(edges, range(0, len(rows), _CHUNK)) if part is not None]
    left, right = (np.concatenate([np.empty(0, np.int64), *(part[n] for part in parts)]) for n in (0, 1))
    return Groups(_grouped(rows, joined(len(rows), left, right)), min(len(parts) * _CHUNK, len(rows)))


def _index(vectors: Vectors, rows: Rows, threads: int) -> VectorIndex:
    kind: Kind = "ivf" if len(rows) > _EXACT_ROWS else "flat"
    size = vectors(rows[:1]).shape[1]
    drawn = np.random.default_rng(0).choice(rows, VectorIndex.training_rows(kind, len(rows)), replace=False)
    return VectorIndex.build(kind, size, len(rows), _chunks(vectors, rows), vectors(np.sort(drawn)), threads)


def _chunks(vectors: Vectors, rows: Rows) -> Iterator[Floats]:
    for start in range(0, len(rows), _CHUNK):
        yield vectors(rows[start : start + _CHUNK])


def _near(index: VectorIndex, start: int, threshold: float) -> Edges:
    """Return the pairs of a chunk's vectors with those that are near."""
    own = np.arange(start, min(start + _CHUNK, len(index)))
    scores, others = index.search(index.vectors(own), min(_NEIGHBOURS, len(index)), _PROBES)
    near = (scores >= threshold - _ROUNDING) & (others >= 0) & (others != own[:, None])
    return np.broadcast_to(own[:, None], others.shape)[near], others[near]


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
