"""What a site's values look like without a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from model_forensics.errors import UsageError
from model_forensics.ops import _check, _dispatch

COUNTS: Final = 5
"""Columns of the counts that a backend fills, the first fields of `ValueShapes`."""

Counts = npt.NDArray[np.int64]


class ValueShapes(NamedTuple):
    """Per site, of the values looked at.

    Attributes:
        looked_at: [sites] int64.
        distinct: [sites] int64, different bit patterns.
        most_frequent: [sites] int64, how often the most frequent bit pattern occurs.
        saturated: [sites] int64, values at the largest magnitude.
        low_mantissa: [sites] int64, values with a set bit below bfloat16's mantissa.
        quantiles: [sites, levels] float32, the magnitude of rank ⌊level · (n − 1)⌋; NaN in sites without a value.
    """

    looked_at: Counts
    distinct: Counts
    most_frequent: Counts
    saturated: Counts
    low_mantissa: Counts
    quantiles: npt.NDArray[np.float32]


def value_shapes(
    x: npt.NDArray[np.float32], starts: Counts, *, most: int, levels: Sequence[float], backend: str = "auto"
) -> ValueShapes:
    """Counts and quantiles of each site's values, the same in every backend.

    Args:
        x: [entries] float32 without NaN, the entries of all sites one after the other.
        starts: [sites + 1] int64, where each site's entries begin.
        most: values of a site that are looked at; of more, every k-th is, with the smallest k that suffices.
        levels: quantiles wanted, from 0 to 1.
        backend: "auto" or the name of a backend.

    Returns:
        What each site counts.

    Raises:
        UsageError: an argument is not as above.
        BackendUnavailable: the backend cannot serve.
    """
    op = "value_shapes"
    choice = _dispatch.select(op, x, backend)
    values: npt.NDArray[np.float32] = _check.array(op, "x", x, np.float32, 1)
    if np.isnan(values).any():
        raise UsageError("x holds NaN", where=op, cure="Leave NaN out; it has no rank")
    offsets = _check.row_offsets(op, starts, values.size)
    most = _check.integer(op, "most", most, 1, np.iinfo(np.int32).max)
    wanted = np.array(levels, dtype=np.float64)
    if wanted.ndim != 1 or not ((wanted >= 0) & (wanted <= 1)).all():
        raise UsageError(f"levels is {levels!r}", where=op, cure="Pass numbers from 0 to 1")
    counts = np.empty((offsets.size - 1, COUNTS), dtype=np.int64)
    quantiles = np.empty((offsets.size - 1, wanted.size), dtype=np.float32)
    choice.module.value_shapes(values, offsets, most, wanted, counts, quantiles)
    _dispatch.record(choice)
    looked_at, distinct, most_frequent, saturated, low_mantissa = counts.T
    return ValueShapes(looked_at, distinct, most_frequent, saturated, low_mantissa, quantiles)
