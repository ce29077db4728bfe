"""Probability that a position is looked at, estimated from the clicks themselves.

No results were shuffled for it. A click falls on position ``k`` of a list with a probability in proportion to ``p_k · g_k``:
``p_k``, that the position is looked at, belongs to the position alone; ``g_k``, that what stands there is what was looked for,
is a function of the parent's cosine. The cosines at one position differ from query to query, and what stands at it differs
where several models answered, so that the two can be told apart: a conditional logit (McFadden 1974), in the spirit of
regression-based EM (Wang, Golbandi, Bendersky, Metzler and Najork, WSDM 2018), but given that there was a click, since a log
of feedback has no searches without one. Weights by its inverse make a loss unbiased: Joachims, Swaminathan and Schnabel,
WSDM 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import softplus

Doubles = npt.NDArray[np.float64]

MOST_WEIGHT = 20.0
"""Largest weight of a choice, relative to one at the first position: beyond it a single stray click would rule."""

_KNOTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)  # positions between which log p falls evenly in log k
_STEADY = 50.0  # pull of the slopes towards each other, against noise; in clicks
_POSITIONS = 1000


def estimated(lists: Sequence[Doubles], clicks: Sequence[Sequence[int]]) -> Doubles:
    """Estimate the probability that each position is looked at, relative to the first.

    Args:
        lists: for each answer the parent's cosines of what was shown, in that order.
        clicks: for each answer the positions that were chosen, from 0.

    Returns:
        float64 [K], K the longest list; from 1 at the first, never rising.
    """
    longest = min(max(map(len, lists), default=1), _POSITIONS)
    cosines = np.full((len(lists), longest), -np.inf)
    counts = np.zeros((len(lists), longest))
    for row, (values, positions) in enumerate(zip(lists, clicks, strict=True)):
        cosines[row, : min(len(values), longest)] = values[:longest]
        for position in positions:
            if position < longest:
                counts[row, position] += 1
    if longest == 1 or not counts.any():
        return np.ones(longest)
    slopes = _fitted(cosines, counts)
    curve: Doubles = torch.exp(-(_falls(longest) @ slopes)).numpy()
    return curve


def weights(propensities: Doubles, positions: Sequence[int]) -> list[float]:
    """Return the inverse of the propensity of each position, at most :data:`MOST_WEIGHT`."""
    last = len(propensities) - 1
    return [float(min(1 / propensities[min(position, last)], MOST_WEIGHT)) for position in positions]


def _fitted(cosines: Doubles, counts: Doubles) -> Tensor:
    """Return the slopes of the most likely curve, float64 [S]."""
    shown = torch.from_numpy(np.isfinite(cosines))
    behind = np.where(np.isfinite(cosines), cosines - cosines[:, :1], 0)
    scaled = torch.from_numpy(behind / max(float(behind.std()), 1e-9))
    clicked, falls = torch.from_numpy(counts), _falls(cosines.shape[1])
    raw = torch.full((falls.shape[1],), 0.5, dtype=torch.float64, requires_grad=True)
    relevance = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([raw, relevance], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        slopes = softplus(raw)
        logits = (softplus(relevance) * scaled - falls @ slopes).masked_fill(~shown, -torch.inf)
        likelihood = (clicked * torch.log_softmax(logits, 1).masked_fill(~shown, 0)).sum()
        loss: Tensor = _STEADY * ((slopes - slopes.mean()) ** 2).sum() - likelihood
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return softplus(raw).detach()


def _falls(count: int) -> Tensor:
    """Return how far each position is within each stretch between two knots, in the logarithm: float64 [K, S]."""
    places = torch.log(torch.arange(1, count + 1, dtype=torch.float64))
    knots = torch.log(torch.tensor([knot for knot in _KNOTS if knot < 2 * count], dtype=torch.float64))
    return torch.stack([(places - low).clamp(0, float(high - low)) for low, high in pairwise(knots)], 1)
