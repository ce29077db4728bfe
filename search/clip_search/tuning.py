"""How hard an approximate index must search: tried on queries against exact search, until the recall target is reached."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from clip_search.faiss_index import EFFORTS, Floats, Positions, VectorIndex

AT = 10
"""Recall is counted over so many nearest."""

Source = Literal["vectors", "texts", "asked"]
SOURCES: tuple[Source, ...] = get_args(Source)
"""What may be tuned on, from worst to best: stored vectors, texts of all sorts, what people asked."""
_ENOUGH = 8


@dataclass(frozen=True)
class Tuned:
    """What tuning came to.

    Attributes:
        effort: what the index is searched with.
        recall: share of the true nearest 10 found with it, 1.0 where search is exact.
        target: what was asked for.
        queries: how many were tried.
        source: where these came from, one of ``SOURCES``.
    """

    effort: int
    recall: float
    target: float
    queries: int
    source: Source


def tuned(index: VectorIndex, queries: Floats, source: Source, target: float) -> Tuned:
    """The least effort whose recall at 10 reaches the target on the queries [Q, D], and on either half; else the greatest.

    All of them must reach it less the standard error, so that other queries than these get it too. Either half: the effort
    shall not be fitted to one kind, and what people asked comes first.
    """
    efforts = EFFORTS[index.kind]
    if index.kind == "flat" or len(queries) < _ENOUGH or len(index) < AT:
        return Tuned(efforts[-1], 1.0, target, 0, source) if index.kind == "flat" else _hardest(efforts, target, source)
    _, truth = index.exact(queries, AT)
    for effort in efforts:
        _, found = index.search(queries, AT, effort)
        shares = recalls(found, truth)
        halves = [half.mean() for half in np.array_split(shares, 2)]
        if min(shares.mean() - shares.std() / np.sqrt(len(shares)), *halves) >= target:
            break
    return Tuned(effort, round(float(shares.mean()), 4), target, len(queries), source)


def recalls(found: Positions, truth: Positions) -> npt.NDArray[np.float64]:
    """Share of each query's ``truth`` [Q, k] that is in its ``found`` [Q, k], float64 [Q]."""
    return np.array([np.isin(true, one).mean() for one, true in zip(found, truth, strict=True)])


def _hardest(efforts: Sequence[int], target: float, source: Source) -> Tuned:
    """Nothing to try with: search harder than is likely to be needed, and claim no recall."""
    return Tuned(efforts[-4], 0.0, target, 0, source)
