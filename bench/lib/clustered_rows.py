"""Clustered vectors as a collection's rows, and a process that adds rows while others search."""

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.pool import AsyncResult

import numpy as np
import numpy.typing as npt

from clip_client import Search
from clip_client.search import Row, Term

NAME = "bench"
YEARS = 100  # a filter on one year keeps 1 %
_BATCH = 100  # rows in one request

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Added:
    """Result of adding: rows a second, and the longest time from an add's answer to a hit, in seconds."""

    per_s: float
    visible_s: float


def clustered(rows: int, size: int, seed: int = 0) -> Floats:
    """Return unit vectors, float32 [rows, size], about 100 to a cluster."""
    draw = np.random.default_rng(seed)
    centres = draw.normal(size=(max(1, rows // 100), size)).astype(np.float32)
    vectors = centres[draw.integers(0, len(centres), rows)] + 0.3 * draw.standard_normal((rows, size), np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def rows(vectors: Floats, start: int, count: int, prefix: str) -> list[Row]:
    """Return some of the vectors as rows with metadata."""
    return [
        Row(id=f"{prefix}{n}", vector=vector, metadata={"year": n % YEARS, "caption": f"picture {n}"})
        for n, vector in enumerate(vectors[start : start + count], start)
    ]


@contextmanager
def being_added(url: str, per_s: int, seconds: float, size: int, turn: int) -> Iterator[AsyncResult[Added]]:
    """Add rows at a pace from a process of its own, others in each turn; give its result, an :class:`Added`."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        pool.apply(time.sleep, (0,))  # until it has started
        yield pool.apply_async(_add, (url, per_s, seconds, size, turn))


def _add(url: str, per_s: int, seconds: float, size: int, turn: int) -> Added:
    vectors, prefix = clustered(int(per_s * seconds), size, seed=1 + turn), f"beside{turn}-"
    delays, start = [], time.monotonic()
    with Search(url) as search:
        for first in range(0, len(vectors), _BATCH):
            time.sleep(max(0.0, start + first / per_s - time.monotonic()))
            search.add(NAME, rows(vectors, first, _BATCH, prefix))
            delays.append(_visible_after(search, f"{prefix}{first}", vectors[first]))
    return Added(len(vectors) / (time.monotonic() - start), max(delays))


def _visible_after(search: Search, id: str, vector: Floats) -> float:
    """Return the seconds until a search by a row's own vector hits it."""
    start = time.monotonic()
    while id not in {hit.id for hit in search.query(NAME, Term(vector=vector), k=2)}:
        pass
    return time.monotonic() - start
