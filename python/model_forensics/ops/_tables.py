"""Numbers that all backends share, so that they give the same bits."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln

MAX_WINDOW: Final = 1 << 20
FIXED_POINT_BITS: Final = 32
"""Entropy sums are integers in units of 2^-32 bits: exact in any order. 2^20 · 20 · 2^32 fits into 63 bits."""

COST_BITS: Final = 16
"""Costs are integers in units of 2^-16 bits. Those below 2^15 bits fit into 32 bits, sums of 2^32 of them into 64."""

_MAX_COUNT: Final = 1 << 16
_TWO_OVER_LN2: Final = 2.8853900817779268
_SQRT2: Final = 1.4142135623730951
_SERIES: Final = tuple(_TWO_OVER_LN2 / (2 * k + 1) for k in range(11))


def log2(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """log2 of positive, finite, normal float64 values, within 2 units in the last place; exact for powers of two.

    Libraries round their logarithms differently, so a value next to a border of the grid would fall on one side in one
    backend and on the other in the next. This one is a fixed sequence of IEEE operations: x = m · 2^e with m in
    (√½, √2], log2 x = e + (2/ln 2) · artanh((m − 1)/(m + 1)), the series of artanh to its eleventh term by Horner's
    rule.
    """
    bits = np.ascontiguousarray(values, dtype=np.float64).view(np.int64)
    exponent = ((bits >> 52) - 1023).astype(np.float64)
    mantissa = ((bits & 0x000FFFFFFFFFFFFF) | 0x3FF0000000000000).view(np.float64)
    above = mantissa > _SQRT2
    mantissa = np.where(above, mantissa * 0.5, mantissa)
    exponent = np.where(above, exponent + 1.0, exponent)
    ratio = (mantissa - 1.0) / (mantissa + 1.0)
    square = ratio * ratio
    total = np.full_like(square, _SERIES[-1])
    for term in reversed(_SERIES[:-1]):
        total = total * square + term
    result: npt.NDArray[np.float64] = exponent + ratio * total
    return result


@lru_cache(maxsize=8)
def window_costs(window: int) -> npt.NDArray[np.int64]:
    """[window + 1] int64: round(c · log2 c · 2^32) for counts c = 0 … window, read-only."""
    counts = np.arange(window + 1, dtype=np.float64)
    costs = np.zeros(window + 1, dtype=np.int64)
    costs[1:] = np.rint(np.ldexp(counts[1:] * log2(counts[1:]), FIXED_POINT_BITS)).astype(np.int64)
    costs.setflags(write=False)
    return costs


def adaptive_bits(counts: npt.NDArray[np.int64], tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """[channels] float64: bits of the Krichevsky–Trofimov code of channels with these counts.

    Args:
        counts: [channels, alphabet] int64.
        tokens: [channels] int64, their sums.
    """
    half_alphabet = counts.shape[1] / 2
    nats = gammaln(tokens + half_alphabet) - gammaln(half_alphabet)
    nats = nats - _log_gamma_ratio(counts).sum(axis=1)
    bits: npt.NDArray[np.float64] = nats / np.log(2.0)
    return bits


def _log_gamma_ratio(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """ln Γ(n + ½)/Γ(½) of each count: from a table, unless few counts are larger than it."""
    largest = int(counts.max(initial=0))
    if largest >= _MAX_COUNT:
        return np.asarray(gammaln(counts + 0.5) - gammaln(0.5), dtype=np.float64)
    return _log_gamma_table(1 << largest.bit_length())[counts]


@lru_cache(maxsize=2)
def _log_gamma_table(size: int) -> npt.NDArray[np.float64]:
    """[size] float64: ln Γ(n + ½)/Γ(½) of n = 0 … size − 1, read-only."""
    table: npt.NDArray[np.float64] = np.asarray(gammaln(np.arange(size) + 0.5) - gammaln(0.5), dtype=np.float64)
    table.setflags(write=False)
    return table
