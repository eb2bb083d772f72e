"""The reference: plain NumPy. Every other backend answers to it.

Backends get checked, C-contiguous arrays and fill `out`, which may hold anything on entry.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from model_forensics.ops import _tables

Symbols = npt.NDArray[np.uint8]
Costs = npt.NDArray[np.float32]
Bits = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_BLOCK = 1 << 20  # items of temporary memory


def entropy_windows(
    symbols: Symbols, offsets: Integers, window: int, stride: int, alphabet: int, cost: Integers, out: Bits
) -> None:
    """Windows of every row, by counting each window on its own."""
    scale = float(window) * 2.0**_tables.FIXED_POINT_BITS
    block = max(1, _BLOCK // max(window, alphabet))
    written = 0
    for start, stop in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        if stop - start < window:
            continue
        windows = np.lib.stride_tricks.sliding_window_view(symbols[start:stop], window)[::stride]
        for first in range(0, len(windows), block):
            part = windows[first : first + block]
            labels = part + np.arange(len(part), dtype=np.int64)[:, None] * alphabet
            counts = np.bincount(labels.ravel(), minlength=len(part) * alphabet).reshape(len(part), alphabet)
            sums = cost[counts].sum(axis=1)
            out[written : written + len(part)] = (cost[window] - sums).astype(np.float64) / scale
            written += len(part)


def histogram(symbols: Symbols, alphabet: int, out: Integers) -> None:
    """Counts of every channel; `out` is [channels, alphabet]."""
    tokens, channels = symbols.shape
    out[...] = 0
    shift = np.arange(channels, dtype=np.int64) * alphabet
    block = max(1, _BLOCK // max(1, channels))
    for first in range(0, tokens, block):
        labels = symbols[first : first + block] + shift
        out += np.bincount(labels.ravel(), minlength=channels * alphabet).reshape(channels, alphabet)


def quantize_uniform(values: Costs, low: Costs, step: Costs, levels: int, out: Symbols) -> None:
    """clip(floor((x − low)/step), 0, levels − 1) in float64; nonfinite x → levels."""
    finite = np.isfinite(values)
    x = np.where(finite, values, np.float32(0)).astype(np.float64)
    _place(x, finite, low, step, levels, out)


def quantize_log(values: Costs, low: Costs, step: Costs, levels: int, out: Symbols) -> None:
    """The same on log2|x|; zero → 0."""
    finite = np.isfinite(values)
    usable = finite & (values != 0)
    x = np.where(usable, np.abs(values), np.float32(1)).astype(np.float64)
    _place(_tables.log2(x), finite, low, step, levels, out)
    out[finite & (values == 0)] = 0


def _place(x: Bits, finite: npt.NDArray[np.bool_], low: Costs, step: Costs, levels: int, out: Symbols) -> None:
    position = np.floor((x - low.astype(np.float64)) / step.astype(np.float64))
    out[...] = np.clip(position, 0, levels - 1).astype(np.uint8)
    out[~finite] = levels


def codelength_per_channel(symbols: Symbols, cost: Costs, out: Bits) -> None:
    """Sum over tokens, in token order; `out` is [channels]."""
    channels = np.arange(symbols.shape[1])
    out[...] = 0.0
    for row in symbols:
        out += cost[channels, row]


def codelength_per_token(symbols: Symbols, cost: Costs, out: Bits) -> None:
    """Sum over channels, in channel order; `out` is [tokens]."""
    out[...] = 0.0
    for channel in range(symbols.shape[1]):
        out += cost[channel, symbols[:, channel]]
