"""Weights that make groups, not samples, the unit."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from model_forensics.cf.planes import Floats


def group_weights(groups: npt.NDArray[np.int64]) -> Floats:
    """[samples] weights that give every group the same total; they sum to the number of groups."""
    counts = np.bincount(groups)
    result: Floats = 1.0 / counts[groups]
    return result


def weighted_mean(values: Floats, weights: Floats) -> Floats:
    """[...] mean over samples of what was measured (not NaN) of [samples, ...] values with [samples] weights; NaN where
    nothing was."""
    weight = weights.reshape(-1, *(1,) * (values.ndim - 1)) * np.isfinite(values)
    total = weight.sum(axis=0)
    summed = (weight * np.where(np.isfinite(values), values, 0.0)).sum(axis=0)
    result: Floats = np.divide(summed, total, out=np.full(summed.shape, np.nan), where=total > 0)
    return result
