"""Sums over bins, entry by entry."""

from __future__ import annotations

import numpy as np

from model_forensics.ops._arrays import Bits, Integers


def bin_sums(
    x: Bits, bins: Integers, starts: Integers, centre: Bits, spread: Bits, limit: float, total: Bits, squares: Bits
) -> None:
    """Fills `total` [bins] and `squares` [sites]; where `spread` is empty, x itself is added."""
    site = np.repeat(np.arange(starts.size - 1), np.diff(starts))
    terms = np.minimum(np.abs(x - centre[bins]) / spread[site], limit) if spread.size else x
    total[...] = np.bincount(bins, weights=terms, minlength=total.size)
    squares[...] = np.bincount(site, weights=terms * terms, minlength=squares.size)
