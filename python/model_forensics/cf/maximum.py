"""Family-wise p-values: each site's statistic against the largest of all sites in benign recordings.

Comparing with the maximum accounts for the number of sites and for their dependence (the single-step maxT procedure;
Westfall and Young 1993, Resampling-Based Multiple Testing). Sites are first brought to one scale, so that the least
regular of them does not set the threshold of all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from model_forensics.cf.nulls import Tail
from model_forensics.cf.planes import Floats

PRIOR_DEGREES = 4.0  # a site's variance is shrunk towards the mean of all sites' by this many draws
LEAST_SPREAD = 1e-6
TAIL = 0.5  # share of benign maxima that teach the extrapolated tail
TAIL_PRIOR = (2.0, 0.5)  # two exceedances, half a standard deviation above the threshold


@dataclass(frozen=True)
class MaximumNull:
    """What the statistic of each site, and the largest of them, look like in benign recordings.

    Attributes:
        location, spread: [sites] of the statistic; NaN where benign recordings never had it.
        tail: of the largest standardised statistic; None where no benign draw has one.
    """

    location: Floats
    spread: Floats
    tail: Tail | None

    @staticmethod
    def of(values: Floats, weights: Floats, groups: int) -> MaximumNull:
        """From [draws, sites] benign statistics (NaN: not measured) and [draws] weights that sum to `groups`."""
        location, spread = _fit(values)
        standard = np.empty_like(values)
        for draw in range(len(values)):
            # Each draw is measured by the others, as a recording is by all.
            mine = _fit(np.delete(values, draw, axis=0))
            standard[draw] = (values[draw] - mine[0]) / mine[1]
        maxima = largest(standard)[:, None]
        known = bool(np.isfinite(maxima).any())
        tail = Tail.exponential(maxima, weights, groups, TAIL, TAIL_PRIOR) if known else None
        return MaximumNull(location, spread, tail)

    def p_values(self, statistic: Floats) -> Floats:
        """[sites] probability that a benign recording's largest site lies as far out; NaN stays NaN."""
        if self.tail is None:
            return np.full(statistic.shape, np.nan)
        standard = (statistic - self.location) / self.spread
        return np.where(np.isfinite(standard), self.tail.p_values(standard), np.nan)


def largest(values: Floats) -> Floats:
    """[draws] the largest value of [draws, sites]; NaN where there is none."""
    result = np.where(np.isfinite(values), values, -np.inf).max(axis=1, initial=-np.inf)
    return np.where(np.isfinite(result), result, np.nan)


def _fit(values: Floats) -> tuple[Floats, Floats]:
    """[sites] mean, and standard deviation of a further draw, moderated across sites."""
    known = np.isfinite(values)
    count = known.sum(axis=0)
    filled = np.where(known, values, 0.0)
    mean = filled.sum(axis=0) / np.where(count > 0, count, np.nan)
    free = np.maximum(count - 1, 0)
    squares = np.where(known, (filled - mean) ** 2, 0.0).sum(axis=0)
    pooled = squares.sum() / max(free.sum(), 1)
    variance = (squares + PRIOR_DEGREES * pooled) / (free + PRIOR_DEGREES)
    return mean, np.sqrt(np.maximum(variance * (1 + 1 / np.maximum(count, 1)), LEAST_SPREAD**2))
