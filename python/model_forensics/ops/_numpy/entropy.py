"""Windows counted one by one."""

from __future__ import annotations

import numpy as np

from model_forensics.ops import _tables
from model_forensics.ops._arrays import Bits, Integers, Symbols

_BLOCK = 1 << 16  # items of temporary memory, which then stay in the processor's cache


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
            sums = cost.take(counts).sum(axis=1)
            out[written : written + len(part)] = (cost[window] - sums).astype(np.float64) / scale
            written += len(part)
