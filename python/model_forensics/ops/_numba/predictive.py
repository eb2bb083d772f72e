"""Predictive codes and moments, one entry after the other."""

from __future__ import annotations

import numpy as np

from model_forensics.ops._arrays import Bits, Floats, Integers, Symbols
from model_forensics.ops._numba.compiled import compiled
from model_forensics.ops._numba.planes import log2


@compiled
def predictive_bits(
    values: Floats,
    channels: Integers,
    starts: Integers,
    location: Floats,
    scale: Floats,
    degrees: Symbols,
    positive: Floats,
    presence_gain: Floats,
    bits: Bits,
    expected: Bits,
    step: float,
    resolution: float,
    least_scale: float,
    largest_square: float,
    excess: Bits,
    symbols: Symbols,
    presence: Bits,
    sums: Bits,
    counts: Integers,
) -> None:
    """Fills everything from `excess` on; `sums` is [8, sites] in the order of the fields of `PredictiveBits`."""
    levels = bits.shape[1]
    half_range, narrow = np.float32(levels / 2 * step), np.float32(step)
    sums[...] = 0.0
    counts[...] = 0
    difference = np.empty(values.size)
    for site in range(starts.size - 1):
        for i in range(starts[site], starts[site + 1]):
            channel = channels[i]
            width = np.float64(scale[channel])
            magnitude = log2(abs(np.float64(values[i])))
            low = np.float64(location[channel] - half_range * scale[channel])
            position = (magnitude - low) / np.float64(narrow * scale[channel])
            symbol = np.int64(min(max(position, 0.0), levels - 1.0))
            paid = bits[degrees[channel], symbol]
            paid_excess = paid - expected[degrees[channel]]
            up = np.float64(positive[channel])
            down = 1.0 - up
            up_bits, down_bits = log2(up), log2(down)
            sign_bits = -(up_bits if values[i] > 0 else down_bits)
            sign_excess = sign_bits - -(up * up_bits + down * down_bits)
            bounded = max(width, least_scale)
            precision = 1.0 / (bounded * bounded)
            difference[i] = magnitude - np.float64(location[channel])
            symbols[i] = symbol
            excess[i] = paid_excess + sign_excess
            presence[i] = presence_gain[channel]
            counts[site, symbol] += 1
            sums[0, site] += paid_excess
            sums[1, site] += sign_excess
            sums[2, site] += precision
            sums[3, site] += precision * difference[i]
            sums[5, site] += presence[i]
            sums[6, site] += paid
            sums[7, site] += paid + log2(step * width / resolution) + sign_bits
        drift = sums[3, site] / sums[2, site] if sums[2, site] > 0 else 0.0
        for i in range(starts[site], starts[site + 1]):
            residual = (difference[i] - drift) / np.float64(scale[channels[i]])
            sums[4, site] += min(residual * residual, largest_square)


@compiled
def add_moments(values: Floats, channels: Integers, count: Bits, total: Bits, square: Bits, positive: Bits) -> None:
    """Adds to the sums in place."""
    for i in range(values.size):
        magnitude = log2(abs(np.float64(values[i])))
        channel = channels[i]
        count[channel] += 1.0
        total[channel] += magnitude
        square[channel] += magnitude * magnitude
        if values[i] > 0:
            positive[channel] += 1.0
