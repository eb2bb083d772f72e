"""Grids and counts."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from model_forensics.ops import _tables
from model_forensics.ops._arrays import Floats, Integers, Symbols
from model_forensics.ops._numba.compiled import compiled
from model_forensics.ops._numpy.planes import EXPONENT, LOG, SIGN, SYMBOLS, refuse_outside

_SQRT2 = _tables._SQRT2
_SERIES = _tables._SERIES


def quantize(
    values: Floats, shapes: Integers, scale: int, levels: int, low: Floats, step: Floats, out: Symbols
) -> None:
    """Symbols of all values."""
    _quantize(values, values.view(np.uint32), shapes, scale, levels, low, step, out)


def histogram(
    data: Symbols | Floats,
    shapes: Integers,
    scale: int,
    levels: int,
    low: Floats,
    step: Floats,
    alphabet: int,
    out: Integers,
) -> None:
    """Counts of every channel; `out` is [channels, alphabet]."""
    refuse_outside(data, scale, alphabet)
    out[...] = 0
    _histogram(*sources(data, scale), shapes, scale, levels, low, step, out)


def sources(data: Symbols | Floats, scale: int) -> tuple[Symbols, Floats, npt.NDArray[np.uint32]]:
    """Symbols, values and the bits of values, of which the compiled functions read those that `scale` says."""
    if scale == SYMBOLS:
        return data, np.zeros(0, np.float32), np.zeros(0, np.uint32)  # type: ignore[return-value]
    return np.zeros(0, np.uint8), data, data.view(np.uint32)  # type: ignore[return-value]


@compiled
def log2(value: float) -> float:
    """`_tables.log2` of one positive finite value."""
    half, exponent = math.frexp(value)  # exact: the mantissa in [½, 1)
    mantissa = 2.0 * half
    exponent -= 1
    if mantissa > _SQRT2:
        mantissa = mantissa * 0.5
        exponent += 1
    ratio = (mantissa - 1.0) / (mantissa + 1.0)
    square = ratio * ratio
    total = _SERIES[10]
    for k in range(9, -1, -1):
        total = total * square + _SERIES[k]
    return float(exponent) + ratio * total


@compiled
def symbol_of(value: float, bits: np.uint32, scale: int, levels: int, low: float, step: float) -> np.int64:
    """The symbol of one value, whose float32 bits are `bits`."""
    if scale == SIGN:
        return np.int64(bits >> 31)
    if scale == EXPONENT:
        return np.int64((bits >> 23) & 0xFF)
    if not np.isfinite(value):
        return np.int64(levels)
    x = float(value)
    if scale == LOG:
        if x == 0.0:
            return np.int64(0)
        x = log2(abs(x))
    position = np.floor((x - low) / step)
    return np.int64(min(max(position, 0.0), float(levels - 1)))


@compiled
def _quantize(
    values: Floats,
    bits: npt.NDArray[np.uint32],
    shapes: Integers,
    scale: int,
    levels: int,
    low: Floats,
    step: Floats,
    out: Symbols,
) -> None:
    i = 0
    first = 0
    for site in range(shapes.shape[0]):
        for _ in range(shapes[site, 0]):
            for channel in range(first, first + shapes[site, 1]):
                at = channel if low.size else -1
                start = np.float64(low[at]) if at >= 0 else 0.0
                width = np.float64(step[at]) if at >= 0 else 1.0
                out[i] = symbol_of(np.float64(values[i]), bits[i], scale, levels, start, width)
                i += 1
        first += shapes[site, 1]


@compiled
def _histogram(
    symbols: Symbols,
    values: Floats,
    bits: npt.NDArray[np.uint32],
    shapes: Integers,
    scale: int,
    levels: int,
    low: Floats,
    step: Floats,
    out: Integers,
) -> None:
    i = 0
    first = 0
    for site in range(shapes.shape[0]):
        for _ in range(shapes[site, 0]):
            for channel in range(first, first + shapes[site, 1]):
                if scale == SYMBOLS:
                    out[channel, symbols[i]] += 1
                else:
                    start = np.float64(low[channel]) if low.size else 0.0
                    width = np.float64(step[channel]) if low.size else 1.0
                    value = np.float64(values[i])
                    out[channel, symbol_of(value, bits[i], scale, levels, start, width)] += 1
                i += 1
        first += shapes[site, 1]
