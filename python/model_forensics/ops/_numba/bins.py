"""Sums over bins, one entry after the other."""

from __future__ import annotations

from model_forensics.ops._arrays import Bits, Integers
from model_forensics.ops._numba.compiled import compiled


@compiled
def bin_sums(
    x: Bits, bins: Integers, starts: Integers, centre: Bits, spread: Bits, limit: float, total: Bits, squares: Bits
) -> None:
    """Fills `total` [bins] and `squares` [sites]; where `spread` is empty, x itself is added."""
    total[...] = 0.0
    for site in range(starts.size - 1):
        square = 0.0
        for i in range(starts[site], starts[site + 1]):
            term = x[i]
            if spread.size:
                term = abs(x[i] - centre[bins[i]]) / spread[site]
                term = limit if term > limit else term  # NaN stays
            total[bins[i]] += term
            square += term * term
        squares[site] = square
