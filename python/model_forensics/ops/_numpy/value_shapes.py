"""Shapes of values, site by site."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from model_forensics.ops._arrays import Bits, Floats, Integers

LOW_BITS = np.uint32(0xFFFF)  # of a float32, below bfloat16's mantissa
MAGNITUDE = np.uint32(0x7FFFFFFF)


def value_shapes(
    values: Floats, starts: Integers, most: int, levels: Bits, counts: Integers, quantiles: Floats
) -> None:
    """Fills `counts` [sites, 5], in the order of the fields of `ValueShapes`, and `quantiles` [sites, levels]."""
    counts[...] = 0
    quantiles[...] = np.nan
    for site, (start, stop) in enumerate(pairwise(starts.tolist())):
        bits = values[start : stop : max(1, -(-(stop - start) // most))].view(np.uint32)
        if not bits.size:
            continue
        magnitude = np.sort(bits & MAGNITUDE)
        repeats = np.unique(bits, return_counts=True)[1]
        saturated = int((magnitude == magnitude[-1]).sum())
        counts[site] = (bits.size, repeats.size, repeats.max(), saturated, int(((bits & LOW_BITS) != 0).sum()))
        quantiles[site] = magnitude[np.floor(levels * (bits.size - 1)).astype(np.int64)].view(np.float32)
