"""Grids and counts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from model_forensics.ops import _tables
from model_forensics.ops._arrays import Bits, Floats, Integers, Symbols
from model_forensics.ops._numba.compiled import compiled

_SQRT2 = _tables._SQRT2
_SERIES = np.array(_tables._SERIES)


def histogram(symbols: Symbols, alphabet: int, out: Integers) -> None:
    """Counts of every channel; `out` is [channels, alphabet]."""
    out[...] = 0
    _histogram(symbols, out)


def quantize_uniform(values: Floats, low: Floats, step: Floats, levels: int, out: Symbols) -> None:
    """clip(floor((x − low)/step), 0, levels − 1) in float64; nonfinite x → levels."""
    _quantize(values, low, step, levels, False, out)


def quantize_log(values: Floats, low: Floats, step: Floats, levels: int, out: Symbols) -> None:
    """The same on log2|x|; zero → 0."""
    _quantize(values, low, step, levels, True, out)


@compiled
def _histogram(symbols: Symbols, out: Integers) -> None:
    for token in range(symbols.shape[0]):
        for channel in range(symbols.shape[1]):
            out[channel, symbols[token, channel]] += 1


@compiled
def _log2(value: float, scratch: Bits, bits: npt.NDArray[np.int64]) -> float:
    """`_tables.log2` for one value; `bits` is the integer view of `scratch` [1]."""
    scratch[0] = value
    exponent = float((bits[0] >> 52) - 1023)
    bits[0] = (bits[0] & 0x000FFFFFFFFFFFFF) | 0x3FF0000000000000
    mantissa = scratch[0]
    if mantissa > _SQRT2:
        mantissa = mantissa * 0.5
        exponent = exponent + 1.0
    ratio = (mantissa - 1.0) / (mantissa + 1.0)
    square = ratio * ratio
    total = _SERIES[_SERIES.size - 1]
    for k in range(_SERIES.size - 2, -1, -1):
        total = total * square + _SERIES[k]
    return float(exponent + ratio * total)


@compiled
def _quantize(values: Floats, low: Floats, step: Floats, levels: int, logarithmic: bool, out: Symbols) -> None:
    scratch = np.zeros(1, dtype=np.float64)
    bits = scratch.view(np.int64)
    for token in range(values.shape[0]):
        for channel in range(values.shape[1]):
            value = np.float64(values[token, channel])
            if not np.isfinite(value):
                out[token, channel] = levels
            elif logarithmic and value == 0.0:
                out[token, channel] = 0
            else:
                x = _log2(abs(value), scratch, bits) if logarithmic else value
                position = np.floor((x - np.float64(low[channel])) / np.float64(step[channel]))
                out[token, channel] = np.uint8(min(max(position, 0.0), float(levels - 1)))
