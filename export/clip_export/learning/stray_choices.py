"""Probability that a choice was meant, and is no stray click.

A choice was meant for one of the pictures that its query is for, or fell on whatever the person looked at. Pictures that the
query is for are chosen again, by this one or by others, wherever they stand; stray clicks spread over all positions as looks
do. Each choice is judged by the others of its query: a mixture of a Dirichlet distribution over the pictures, of which the
other choices are a sample corrected for position, and of the looks alone. The share of stray ones is estimated along with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]

_UNSEEN = 1.0  # choices that the pictures of a list are worth together, before anybody has chosen
_FIRST, _LEAST, _MOST = 0.1, 0.01, 0.95  # share of stray choices: where the estimate begins, and its limits
_ROUNDS = 10


@dataclass(frozen=True)
class Choices:
    """Choices of one query, C of them.

    Attributes:
        pictures: number of what was chosen, C.
        looks: probability that its position was looked at, C.
        weights: inverse of it, as each choice counts, C.
        shown: number of pictures in its list, C.
        looked: sum of the looks over its list, C.
    """

    pictures: npt.NDArray[np.int64]
    looks: Doubles
    weights: Doubles
    shown: Doubles
    looked: Doubles


def meant(queries: Sequence[Choices]) -> list[Doubles]:
    """Return for each query the probability that each of its choices was meant."""
    stray = _FIRST
    probabilities = [np.full(len(some.pictures), 1 - stray) for some in queries]
    for _ in range(_ROUNDS):
        probabilities = [_of_query(some, before, stray) for some, before in zip(queries, probabilities, strict=True)]
        every = np.concatenate([*probabilities, [1 - stray]])  # never empty
        stray = float(np.clip(1 - every.mean(), _LEAST, _MOST))
    return probabilities


def _of_query(some: Choices, before: Doubles, stray: float) -> Doubles:
    """Return the probabilities after another round."""
    counted = some.weights * before
    same = some.pictures[:, None] == some.pictures[None, :]
    others = np.where(same, counted, 0).sum(1) - counted
    looked_at = (counted * some.looks).sum() - counted * some.looks
    prior = _UNSEEN / some.shown
    odds = (1 - stray) / stray * (prior + others) * some.looked / (prior * some.looked + looked_at)
    probabilities: Doubles = odds / (1 + odds)
    return probabilities
