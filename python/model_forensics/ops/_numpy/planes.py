"""Grids and counts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from model_forensics.ops import _tables
from model_forensics.ops._arrays import BLOCK, Bits, Floats, Integers, Symbols


def histogram(symbols: Symbols, alphabet: int, out: Integers) -> None:
    """Counts of every channel; `out` is [channels, alphabet]."""
    tokens, channels = symbols.shape
    out[...] = 0
    shift = np.arange(channels, dtype=np.int64) * alphabet
    block = max(1, BLOCK // max(1, channels))
    for first in range(0, tokens, block):
        labels = symbols[first : first + block] + shift
        out += np.bincount(labels.ravel(), minlength=channels * alphabet).reshape(channels, alphabet)


def quantize_uniform(values: Floats, low: Floats, step: Floats, levels: int, out: Symbols) -> None:
    """clip(floor((x − low)/step), 0, levels − 1) in float64; nonfinite x → levels."""
    finite = np.isfinite(values)
    x = np.where(finite, values, np.float32(0)).astype(np.float64)
    _place(x, finite, low, step, levels, out)


def quantize_log(values: Floats, low: Floats, step: Floats, levels: int, out: Symbols) -> None:
    """The same on log2|x|; zero → 0."""
    finite = np.isfinite(values)
    usable = finite & (values != 0)
    x = np.where(usable, np.abs(values), np.float32(1)).astype(np.float64)
    _place(_tables.log2(x), finite, low, step, levels, out)
    out[finite & (values == 0)] = 0


def _place(x: Bits, finite: npt.NDArray[np.bool_], low: Floats, step: Floats, levels: int, out: Symbols) -> None:
    position = np.floor((x - low.astype(np.float64)) / step.astype(np.float64))
    out[...] = np.clip(position, 0, levels - 1).astype(np.uint8)
    out[~finite] = levels
