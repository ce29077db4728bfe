"""Clustered vectors as a collection's rows, and the process that adds more of them while others search."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.pool import AsyncResult
from typing import Any

import numpy as np
import numpy.typing as npt

from clip_client import Search
from clip_client.search import Row, Term

NAME = "bench"
YEARS = 100
"""A filter on one keeps 1 %."""
_TOGETHER = 100  # rows in one request

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Added:
    """What adding came to: rows a second, and from the acknowledgement to being found, in seconds, the longest of all."""

    per_s: float
    found_s: float


def clustered(rows: int, size: int, seed: int = 0) -> Floats:
    """Unit vectors, float32 [rows, size], about 100 to a cluster."""
    draw = np.random.default_rng(seed)
    centres = draw.normal(size=(max(1, rows // 100), size)).astype(np.float32)
    vectors = centres[draw.integers(0, len(centres), rows)] + 0.3 * draw.standard_normal((rows, size), np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def rows(vectors: Floats, start: int, count: int, prefix: str) -> list[Row]:
    """Some of the vectors with metadata."""
    found = enumerate(vectors[start : start + count], start)
    return [Row(id=f"{prefix}{n}", vector=one, metadata=_metadata(n)) for n, one in found]


@contextmanager
def being_added(url: str, per_s: int, seconds: float, size: int, turn: int) -> Iterator[AsyncResult[Added]]:
    """Rows are added at this pace by a process of its own, other ones in each turn; its result is an :class:`Added`."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        pool.apply(time.sleep, (0,))  # until it has started
        yield pool.apply_async(_add, (url, per_s, seconds, size, turn))


def _add(url: str, per_s: int, seconds: float, size: int, turn: int) -> Added:
    vectors, prefix = clustered(int(per_s * seconds), size, seed=1 + turn), f"beside{turn}-"
    delays, start = [], time.monotonic()
    with Search(url) as search:
        for first in range(0, len(vectors), _TOGETHER):
            time.sleep(max(0.0, start + first / per_s - time.monotonic()))
            search.add(NAME, rows(vectors, first, _TOGETHER, prefix))
            delays.append(_found_after(search, f"{prefix}{first}", vectors[first]))
    return Added(len(vectors) / (time.monotonic() - start), max(delays))


def _found_after(search: Search, id: str, vector: Floats) -> float:
    """Seconds until a search by a row's own vector finds it."""
    start = time.monotonic()
    while id not in {hit.id for hit in search.query(NAME, Term(vector=vector), k=2)}:
        pass
    return time.monotonic() - start


def _metadata(n: int) -> dict[str, Any]:
    return {"year": n % YEARS, "caption": f"picture {n}"}
