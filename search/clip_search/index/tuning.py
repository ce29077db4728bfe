"""Tuning of an approximate index: the least effort whose results reach the recall target, beside exact search."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from clip_search.arrays import Floats, Positions
from clip_search.index.faiss_index import VectorIndex
from clip_search.index.kinds import EFFORTS, UNTUNED

Shares: TypeAlias = npt.NDArray[np.float64]

_NEAR = 0.3  # cosine of a text and what the pictures that it describes have in common, in CLIP
_MARGIN = 0.25  # share of what may be missed that made queries leave to texts that are harder
_ROUNDED = 1e-4  # recalls have four digits
_SAME = 0.001  # of a recall, hits that nobody misses, though they may cost ten times the lists
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
    margin: float = 0.0  # that the recall of other queries may be lower: the standard error, or the way to the worse half

    @property
    def is_short(self) -> bool:
        """True if a recall was measured, and it misses the target for some queries."""
        return bool(self.queries) and self.recall - self.margin < self.target - _ROUNDED


def made(index: VectorIndex, count: int) -> Floats:
    """Return queries [n, D] that are as hard to answer by an index as texts are."""
    some = index.vectors(np.random.default_rng(0).integers(len(index), size=count))
    return made_of([index.vectors(near[near >= 0]) for near in index.search(some, AT, UNTUNED)[1]])


def made_of(groups: Sequence[Floats]) -> Floats:
    """Return a query [D] for each group of neighbours, vectors [n, D]: at a cosine of 0.3 to their mean, else at random.

    A text tells what pictures have in common, and nothing of what is one's own. The rest of a query has any direction in the
    first half of them; in the second it is spread as the differences between neighbours are, among which it gets lost if
    vectors differ in few directions. Which of both is harder depends on the vectors.
    """
    draw, half = np.random.default_rng(1), len(groups) // 2
    means = np.stack([group.mean(0) for group in groups])
    differences = np.concatenate([group - mean for group, mean in zip(groups, means, strict=True)])
    anywhere = draw.standard_normal((half, means.shape[1]), np.float32)
    among_neighbours = draw.standard_normal((len(groups) - half, len(differences)), np.float32) @ differences
    rest = _unit(np.concatenate([anywhere, among_neighbours]))
    return _unit(_NEAR * _unit(means) + np.float32(np.sqrt(1 - _NEAR**2)) * rest)


def _unit(vectors: Floats) -> Floats:
    """Return vectors [n, D] of unit length; those without one as they are."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1), np.float32)


def tuned(index: VectorIndex, queries: Floats, source: Source, target: float) -> Tuned:
    """Find the least effort whose recall at 10 reaches the target on the queries [Q, D] and on either half.

    Where none does it is the least that finds as much as the greatest, as :func:`least_effort` tells.

    All of them must reach it less the standard error, so that other queries than these get it too. Either half: the effort
    shall not be fitted to one kind, and what people asked comes first. Queries that are made shall reach a little more where
    they can, since texts may be harder.
    """
    efforts = EFFORTS[index.kind]
    if index.kind == "flat":
        return Tuned(efforts[-1], 1.0, target, 0, source)
    if len(queries) < ENOUGH or len(index) < AT:  # no recall is claimed
        return Tuned(UNTUNED, 0.0, target, 0, source)
    _, truth = index.exact_of_many(queries, AT)

    @cache
    def shares(effort: int) -> Shares:
        return recalls(index.search(queries, AT, effort)[1], truth)

    wanted = target + _MARGIN * (1 - target) if source == "made" else target
    effort = least_effort(efforts, shares, wanted)
    if wanted > target and not reaches(shares(effort), wanted):
        effort = least_effort(efforts, shares, target)
    reached = shares(effort)
    recall = round(float(reached.mean()), 4)
    return Tuned(effort, recall, target, len(queries), source, max(0.0, round(recall - _sure(reached), 4)))


def least_effort(efforts: Sequence[int], shares: Callable[[int], Shares], target: float) -> int:
    """Return the least of ascending efforts whose recall reaches the target; ``shares`` measures one.

    If even the greatest misses it, more effort hardly helps: the least that is as good, to a thousandth.
    """
    least = bisect_left(efforts, True, key=lambda effort: reaches(shares(effort), target))
    if least < len(efforts):
        return efforts[least]
    enough = max(_sure(shares(efforts[-1])) - _SAME, _SAME)
    return efforts[min(bisect_left(efforts, enough, key=lambda effort: _sure(shares(effort))), len(efforts) - 1)]


def reaches(shares: Shares, target: float) -> bool:
    """Tell if the recall of each query, of those that were measured and of others, reaches a target."""
    return _sure(shares) >= target


def _sure(shares: Shares) -> float:
    """Return the recall that other queries get, too: less the standard error, and no more than that of the worse half."""
    halves = [half.mean() for half in np.array_split(shares, 2)]
    return float(min(shares.mean() - shares.std() / np.sqrt(len(shares)), *halves))


def recalls(results: Positions, truth: Positions) -> Shares:
    """Return the share of each query's ``truth`` [Q, k] that is in its ``results`` [Q, k], float64 [Q]."""
    return np.array([np.isin(true, result).mean() for result, true in zip(results, truth, strict=True)])
