"""Predictive codes and moments, entry by entry."""

from __future__ import annotations

import numpy as np

from model_forensics.ops import _tables
from model_forensics.ops._arrays import Bits, Floats, Integers, Symbols


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
    sites, levels = starts.size - 1, bits.shape[1]
    site = np.repeat(np.arange(sites), np.diff(starts))
    centre, width, row = location[channels], scale[channels], degrees[channels]
    magnitude = _tables.log2(np.abs(values).astype(np.float64))
    low = (centre - np.float32(levels / 2 * step) * width).astype(np.float64)
    position = (magnitude - low) / (np.float32(step) * width).astype(np.float64)
    symbols[...] = np.clip(position, 0, levels - 1).astype(np.uint8)  # truncation is the floor of what is not below 0
    paid = bits[row, symbols]
    paid_excess = paid - expected[row]
    up = positive[channels].astype(np.float64)
    down = 1.0 - up
    up_bits, down_bits = _tables.log2(up), _tables.log2(down)
    sign_bits = -np.where(values > 0, up_bits, down_bits)
    sign_excess = sign_bits - -(up * up_bits + down * down_bits)
    wide = width.astype(np.float64)
    bounded = np.maximum(wide, least_scale)
    precision = 1.0 / (bounded * bounded)
    difference = magnitude - centre.astype(np.float64)
    excess[...] = paid_excess + sign_excess
    presence[...] = presence_gain[channels]

    def per_site(weights: Bits) -> Bits:  # one entry after the other, from zero
        result: Bits = np.bincount(site, weights=weights, minlength=sites).astype(np.float64)
        return result

    weight, drifted = per_site(precision), per_site(precision * difference)
    drift = np.divide(drifted, weight, out=np.zeros(sites), where=weight > 0)
    residual = (difference - drift[site]) / wide
    absolute = paid + _tables.log2(step * wide / resolution) + sign_bits
    sums[...] = [
        per_site(paid_excess),
        per_site(sign_excess),
        weight,
        drifted,
        per_site(np.minimum(residual * residual, largest_square)),
        per_site(presence),
        per_site(paid),
        per_site(absolute),
    ]
    counts[...] = np.bincount(site * levels + symbols, minlength=sites * levels).reshape(sites, levels)


def add_moments(values: Floats, channels: Integers, count: Bits, total: Bits, square: Bits, positive: Bits) -> None:
    """Adds to the sums in place."""
    magnitude = _tables.log2(np.abs(values).astype(np.float64))
    np.add.at(count, channels, 1.0)
    np.add.at(total, channels, magnitude)
    np.add.at(square, channels, magnitude * magnitude)
    np.add.at(positive, channels, (values > 0).astype(np.float64))
