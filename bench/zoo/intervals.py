"""95 % intervals of numbers that are no shares: incidents are drawn again with replacement; percentiles.

Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13. Draws in which the number does not exist, as an
AUROC without a wrong answer, are left out (scipy.stats.bootstrap would give NaN for the whole).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

RESAMPLES = 1000
FEWEST = 5
"""Below so many incidents nothing is said."""
Column = npt.NDArray[Any]
Interval = tuple[float, float]


def resampled(statistic: Callable[..., float | None], *columns: Column, seed: int = 0) -> Interval | None:
    """The statistic's interval.

    Args:
        statistic: of the columns.
        columns: [incidents] each; an incident's values stay together.
    """
    incidents = len(columns[0])
    if incidents < FEWEST:
        return None
    random = np.random.default_rng(seed)
    drawn = (random.integers(incidents, size=incidents) for _ in range(RESAMPLES))
    found = [value for rows in drawn if (value := statistic(*(column[rows] for column in columns))) is not None]
    if not found:
        return None
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)
