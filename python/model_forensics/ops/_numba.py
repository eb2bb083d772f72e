"""The operations in numba: what serves when the compiled core is not there.

Each function has the arguments and the arithmetic of its namesake in `_numpy`, in the same order of operations, so that
the results are the same bits. `fastmath` stays off for that reason.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

from model_forensics.ops import _tables
from model_forensics.ops._numpy import Bits, Costs, Integers, Symbols

_Function = TypeVar("_Function", bound=Callable[..., Any])


def _compiled(function: _Function) -> _Function:
    """numba's compiler, typed: compiled at the first call, without the GIL."""
    return cast("_Function", numba.njit(nogil=True)(function))


_SQRT2 = _tables._SQRT2
_SERIES = np.array(_tables._SERIES)
_SCALE = 2.0**_tables.FIXED_POINT_BITS


def entropy_windows(
    symbols: Symbols, offsets: Integers, window: int, stride: int, alphabet: int, cost: Integers, out: Bits
) -> None:
    """Counts move with the window: what leaves and what enters changes the integer sum."""
    _entropy_windows(symbols, offsets, window, stride, alphabet, cost, out)


def histogram(symbols: Symbols, alphabet: int, out: Integers) -> None:
    """Counts of every channel; `out` is [channels, alphabet]."""
    out[...] = 0
    _histogram(symbols, out)


def quantize_uniform(values: Costs, low: Costs, step: Costs, levels: int, out: Symbols) -> None:
    """clip(floor((x − low)/step), 0, levels − 1) in float64; nonfinite x → levels."""
    _quantize(values, low, step, levels, False, out)


def quantize_log(values: Costs, low: Costs, step: Costs, levels: int, out: Symbols) -> None:
    """The same on log2|x|; zero → 0."""
    _quantize(values, low, step, levels, True, out)


def codelength_per_channel(symbols: Symbols, cost: Costs, out: Bits) -> None:
    """Sum over tokens, in token order; `out` is [channels]."""
    out[...] = 0.0
    _codelength_per_channel(symbols, cost, out)


def codelength_per_token(symbols: Symbols, cost: Costs, out: Bits) -> None:
    """Sum over channels, in channel order; `out` is [tokens]."""
    out[...] = 0.0
    _codelength_per_token(symbols, cost, out)


@_compiled
def _entropy_windows(
    symbols: Symbols, offsets: Integers, window: int, stride: int, alphabet: int, cost: Integers, out: Bits
) -> None:
    scale = float(window) * _SCALE
    counts = np.zeros(alphabet, dtype=np.int64)
    written = 0
    for row in range(offsets.size - 1):
        total = np.int64(0)
        for start in range(offsets[row], offsets[row + 1] - window + 1, stride):
            if start == offsets[row] or stride >= window:  # nothing of the previous window is left
                counts[:] = 0
                total = np.int64(0)
                first_new = start
            else:
                for i in range(start - stride, start):
                    count = counts[symbols[i]] - 1
                    counts[symbols[i]] = count
                    total -= cost[count + 1] - cost[count]
                first_new = start + window - stride
            for i in range(first_new, start + window):
                count = counts[symbols[i]]
                counts[symbols[i]] = count + 1
                total += cost[count + 1] - cost[count]
            out[written] = float(cost[window] - total) / scale
            written += 1


@_compiled
def _histogram(symbols: Symbols, out: Integers) -> None:
    for token in range(symbols.shape[0]):
        for channel in range(symbols.shape[1]):
            out[channel, symbols[token, channel]] += 1


@_compiled
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


@_compiled
def _quantize(values: Costs, low: Costs, step: Costs, levels: int, logarithmic: bool, out: Symbols) -> None:
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


@_compiled
def _codelength_per_channel(symbols: Symbols, cost: Costs, out: Bits) -> None:
    for token in range(symbols.shape[0]):
        for channel in range(symbols.shape[1]):
            out[channel] += np.float64(cost[channel, symbols[token, channel]])


@_compiled
def _codelength_per_token(symbols: Symbols, cost: Costs, out: Bits) -> None:
    for token in range(symbols.shape[0]):
        for channel in range(symbols.shape[1]):
            out[token] += np.float64(cost[channel, symbols[token, channel]])
