"""Slope of a line through a series, with an error that holds where a measurement depends on the one before."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

_FEWEST = 5.0
"""Fewest measurements that count: an error made of fewer would hide any slope, that of a single step, too."""


@dataclass(frozen=True)
class Slope:
    """Slope of a series.

    Attributes:
        value: by least squares, in units of the series for each unit of time.
        error: half of the width of the slope's confidence interval.
        correlation: of a measurement's distance from the line with that of the one before, bias taken off.
        effective: measurements that count, the others being told by those before them.
    """

    value: float
    error: float
    correlation: float
    effective: float

    @property
    def is_flat(self) -> bool:
        """True if 0 lies within the error."""
        return abs(self.value) <= self.error


def slope(times: npt.ArrayLike, values: npt.ArrayLike, confidence: float = 0.95) -> Slope:
    """Return the slope of the line through evenly spaced measurements, and its error.

    The line is that of least squares. Its error is the usual one with ``n (1 - r) / (1 + r)`` in the place of the number ``n``
    of measurements: Santer et al. 2000, Statistical significance of trends and trend differences, JGR 105, p. 7337. ``r`` is
    the correlation of neighbouring residuals, which comes out too small by (2 + 4 r) / n because a line was drawn through
    them: Shaman and Stine 1988, The bias of autoregressive coefficient estimators, JASA 83, p. 842.

    Args:
        times: ascending, at least 6.
        values: one for each.
        confidence: probability that the interval ``value ± error`` holds the true slope.
    """
    x, y = np.asarray(times, float), np.asarray(values, float)
    n, line = len(x), stats.linregress(x, y)
    residuals = y - line.intercept - line.slope * x
    squares = float(residuals @ residuals)
    if squares <= 1e-18 * float(y @ y):  # a straight line, but for rounding
        return Slope(float(line.slope) if np.ptp(y) else 0.0, 0.0, 0.0, n)
    seen = float(residuals[1:] @ residuals[:-1]) / squares
    correlation = float(np.clip((n * seen + 2) / (n - 4), 0, 1))
    effective = max(n * (1 - correlation) / (1 + correlation), _FEWEST)
    deviation = np.sqrt(squares / (effective - 2) / np.sum((x - x.mean()) ** 2))
    return Slope(float(line.slope), float(stats.t.ppf((1 + confidence) / 2, effective - 2) * deviation), correlation, effective)
