"""Tuning of an approximate index: the least effort whose results reach the recall target, beside exact search."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from clip_search.arrays import Floats, Positions
from clip_search.index.faiss_index import VectorIndex
from clip_search.index.kinds import EFFORTS, UNTUNED

Shares: TypeAlias = npt.NDArray[np.float64]

_NEAR = 0.3  # cosine of a picture and its text in CLIP
AT = 10  # neighbours over which recall is counted

Source = Literal["vectors", "made", "captions", "texts", "asked"]
SOURCES: tuple[Source, ...] = get_args(Source)
"""Sources of queries, from worst to best: none, random directions, the collection's own texts, texts of all sorts, people's."""
Queries = Callable[[int], "tuple[Floats, Source]"]
"""Source of queries to tune on: n -> at most n vectors [n, D], and where they come from."""
QUERIES = 500  # a standard error of 1 % at a recall of 0.95
ENOUGH = 8  # fewer queries say nothing about a recall


@dataclass(frozen=True)
class Tuned:
    """Outcome of tuning."""

    effort: int  # what the index is searched with
    recall: float  # share of the true nearest 10 found with it, 1.0 where search is exact
    target: float  # what was asked for
    queries: int  # how many were tried
    source: Source  # where these came from, one of `SOURCES`


def made(index: VectorIndex, count: int) -> Floats:
    """Return queries [n, D] that lie as far from the vectors of an index as texts do."""
    return made_of(index.vectors(np.random.default_rng(0).integers(len(index), size=count)))


def made_of(stored: Floats) -> Floats:
    """Return a query for each of some stored vectors [n, D]: a random direction at a cosine of 0.3 to it, as a text has.

    On a trained CLIP they needed a little more effort than its captions. Directions near no vector are too hard in clusters.
    """
    away = np.random.default_rng(1).standard_normal(stored.shape, np.float32)
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    queries = _NEAR * stored + np.sqrt(1 - _NEAR**2) * away
    return np.asarray(queries / np.linalg.norm(queries, axis=1, keepdims=True), np.float32)


def tuned(index: VectorIndex, queries: Floats, source: Source, target: float) -> Tuned:
    """Find the least effort whose recall at 10 reaches the target on the queries [Q, D] and on either half; else the greatest.

    All of them must reach it less the standard error, so that other queries than these get it too. Either half: the effort
    shall not be fitted to one kind, and what people asked comes first.
    """
    efforts = EFFORTS[index.kind]
    if index.kind == "flat":
        return Tuned(efforts[-1], 1.0, target, 0, source)
    if len(queries) < ENOUGH or len(index) < AT:  # no recall is claimed
        return Tuned(UNTUNED, 0.0, target, 0, source)
    _, truth = index.exact_of_many(queries, AT)

    def shares(effort: int) -> Shares:
        return recalls(index.search(queries, AT, effort)[1], truth)

    effort = least_effort(efforts, shares, target)
    return Tuned(effort, round(float(shares(effort).mean()), 4), target, len(queries), source)


def least_effort(efforts: Sequence[int], shares: Callable[[int], Shares], target: float) -> int:
    """Return the least of ascending efforts whose recall reaches the target, else the greatest; ``shares`` measures one."""
    least = bisect_left(efforts, True, key=lambda effort: _reaches(shares(effort), target))
    return efforts[min(least, len(efforts) - 1)]


def _reaches(shares: Shares, target: float) -> bool:
    halves = [half.mean() for half in np.array_split(shares, 2)]
    return bool(min(shares.mean() - shares.std() / np.sqrt(len(shares)), *halves) >= target)


def recalls(results: Positions, truth: Positions) -> Shares:
    """Return the share of each query's ``truth`` [Q, k] that is in its ``results`` [Q, k], float64 [Q]."""
    return np.array([np.isin(true, result).mean() for result, true in zip(results, truth, strict=True)])
