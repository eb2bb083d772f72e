"""Windows whose counts move with them."""

from __future__ import annotations

import numpy as np

from model_forensics.ops import _tables
from model_forensics.ops._arrays import Bits, Integers, Symbols
from model_forensics.ops._numba.compiled import compiled

_SCALE = 2.0**_tables.FIXED_POINT_BITS


def entropy_windows(
    symbols: Symbols, offsets: Integers, window: int, stride: int, alphabet: int, cost: Integers, out: Bits
) -> None:
    """Counts move with the window: what leaves and what enters changes the integer sum."""
    _entropy_windows(symbols, offsets, window, stride, alphabet, cost, out)


@compiled
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
