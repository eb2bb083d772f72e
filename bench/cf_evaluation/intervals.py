"""Intervals for rates whose cases are not independent."""

from __future__ import annotations

import numpy as np

DRAWS = 2000


def two_way_interval(values: np.ndarray, rows: np.ndarray, columns: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """95 % interval of a mean over cases that share a row (a baseline) or a column (a judged group).

    Rows and columns are drawn again independently and a case weighs the product of their counts (Owen 2007, The
    pigeonhole bootstrap, Ann. Appl. Stat. 1:386); percentiles.

    Args:
        values: [cases]; rows, columns: [cases] numbers of what each case shares.
    """
    rng = np.random.default_rng(seed)
    means = []
    for _ in range(DRAWS):
        weight = _counts(rng, rows) * _counts(rng, columns)
        if weight.sum() > 0:
            means.append((weight * values).sum() / weight.sum())
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def _counts(rng: np.random.Generator, numbers: np.ndarray) -> np.ndarray:
    """[cases] how often each case's unit is drawn when all units are drawn with replacement."""
    units, position = np.unique(numbers, return_inverse=True)
    drawn = np.bincount(rng.integers(0, units.size, size=units.size), minlength=units.size)
    result: np.ndarray = drawn[position].astype(np.float64)
    return result
