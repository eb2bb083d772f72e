"""Comparing activations."""

from __future__ import annotations

import numpy as np

from model_forensics.types import Sparse


def same(one: np.ndarray | Sparse, other: np.ndarray | Sparse) -> bool:
    """Whether two activations are alike to the last bit."""
    if isinstance(one, Sparse) or isinstance(other, Sparse):
        assert isinstance(one, Sparse)
        assert isinstance(other, Sparse)
        return one.shape == other.shape and same(one.values, other.values) and same(one.indices, other.indices)
    described = [(each.dtype, each.shape, each.tobytes()) for each in (one, other)]
    return described[0] == described[1]
