"""Paired bootstrap: an interval for the difference of two models that answered the same queries."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

RESAMPLES = 10_000
"""Enough for a bound of the interval to be at its percentile within 0.3 percentage points (two standard errors)."""

LEVEL = 0.95
SEED = 0

_NUMBERS = 2**22  # drawn at once

Floats = npt.NDArray[np.float64]


def interval(differences: Floats, weights: Floats) -> Floats:
    """Return the bounds of a weighted mean difference: percentiles of its values in resampled sets of groups.

    Groups of queries are drawn with replacement, as many as there are; both models have the same ones in each set. The
    percentile interval of Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.

    Args:
        differences: float64 [G, K], per group the weighted sum over its queries of one model's score minus the other's.
        weights: float64 [G], per group the sum of the weights of its queries; positive.

    Returns:
        float64 [2, K], the lower and the upper bound of Σ differences / Σ weights.
    """
    groups = len(weights)
    random = np.random.default_rng(SEED)
    sums = np.concatenate([differences, weights[:, None]], axis=1)  # [G, K + 1]
    means = []
    rows = max(1, _NUMBERS // groups)
    for start in range(0, RESAMPLES, rows):
        count = min(rows, RESAMPLES - start)
        drawn = random.integers(0, groups, (count, groups)) + groups * np.arange(count)[:, None]
        times = np.bincount(drawn.ravel(), minlength=count * groups).reshape(count, groups)
        resampled = times @ sums  # [count, K + 1]
        means.append(resampled[:, :-1] / resampled[:, -1:])
    tail = (1 - LEVEL) / 2
    return np.asarray(np.quantile(np.concatenate(means), [tail, 1 - tail], axis=0))
