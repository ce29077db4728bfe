"""Tuning of LanceDB's index: the least effort whose results reach the recall target, beside one exact pass over the table."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy as np

from clip_search.arrays import Floats, Rows
from clip_search.index.tuning import AT, ENOUGH, SOURCES, Shares, Source, least_effort, reaches
from clip_search.storage.vector_index import Effort

PROBES = tuple(2**n for n in range(2, 11))  # to a thousand lists of some two thousand vectors
REFINES = (2, 3, 5, 8, 12, 20, 32, 50)
UNTUNED = Effort(128, 20)  # more than is likely to be needed; no recall is claimed

Search = Callable[[Floats, Effort], Rows]
"""Search of an index: a query [D] and an effort -> the rows of the nearest ten."""
Batches = Iterable[tuple[Rows, Floats]]
"""All vectors of a tower: rows [n] and vectors [n, D], batch after batch."""


@dataclass(frozen=True)
class LanceTuned:
    """Outcome of tuning one build of an index, noted in the table."""

    index: str  # the build's id
    built_rows: int  # that the build held when it was made
    rows: int  # that the index held when it was tuned
    probes: int = UNTUNED.probes
    refine: int = UNTUNED.refine
    recall: float = 0.0  # share of the true nearest 10 found; nothing is claimed without queries
    target: float = 0.0  # what was asked for
    queries: int = 0  # how many were tried
    source: Source = "vectors"  # where these came from, one of `SOURCES`

    @property
    def effort(self) -> Effort:
        """Effort of searches."""
        return Effort(self.probes, self.refine)

    @classmethod
    def read(cls, note: dict[str, Any]) -> LanceTuned | None:
        """Return what :meth:`note` wrote; None for anything else."""
        try:
            tuned = cls(**note)
            is_sound = tuned.probes > 0 and tuned.refine > 0 and 0 <= tuned.recall <= 1 and tuned.source in SOURCES
            return tuned if is_sound and isinstance(tuned.queries, int) else None
        except TypeError:
            return None

    def note(self) -> dict[str, Any]:
        """Return the tuning, ready for JSON."""
        return asdict(self)


def lance_tuned(search: Search, batches: Batches, queries: Floats, target: float) -> tuple[Effort, float, int]:
    """Find the least effort that reaches the target on queries [Q, D]: first the lists, then the candidates to be refined.

    Returns:
        The effort; the recall at 10 that was measured with it; the number of queries, 0 if they are too few to measure.
    """
    if len(queries) < ENOUGH:
        return UNTUNED, 0.0, 0
    truth = exact(batches, queries, AT)
    if truth.shape[1] < AT:
        return UNTUNED, 0.0, 0

    @cache
    def shares(effort: Effort) -> Shares:
        return np.array([np.isin(true, search(query, effort)).mean() for query, true in zip(queries, truth, strict=True)])

    def widest(probes: int) -> Shares:
        return shares(Effort(probes, REFINES[-1]))

    wide = (1 + target) / 2  # half of what may be missed is left to the refining
    probes = least_effort(PROBES, widest, wide)
    if not reaches(widest(probes), wide):
        probes = least_effort(PROBES, widest, target)
    refine = least_effort(REFINES, lambda refine: shares(Effort(probes, refine)), target)
    effort = Effort(probes, refine)
    return effort, round(float(shares(effort).mean()), 4), len(queries)


def exact(batches: Batches, queries: Floats, k: int) -> Rows:
    """Return the rows of the ``k`` nearest to each query [Q, D] among all vectors, int64 [Q, k at most], in one pass."""
    scores, rows = np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
    for here, vectors in batches:
        scores = np.concatenate([scores, queries @ vectors.T], axis=1)
        rows = np.concatenate([rows, np.broadcast_to(here, (len(queries), len(here)))], axis=1)
        if scores.shape[1] > k:
            best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
            scores, rows = np.take_along_axis(scores, best, 1), np.take_along_axis(rows, best, 1)
    return rows
