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
