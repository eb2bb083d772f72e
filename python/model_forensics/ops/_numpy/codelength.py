"""Sums of costs."""

from __future__ import annotations

import numpy as np

from model_forensics.ops._arrays import Bits, Floats, Symbols


def codelength_per_channel(symbols: Symbols, cost: Floats, out: Bits) -> None:
    """Sum over tokens, in token order; `out` is [channels]."""
    channels = np.arange(symbols.shape[1])
    out[...] = 0.0
    for row in symbols:
        out += cost[channels, row]


def codelength_per_token(symbols: Symbols, cost: Floats, out: Bits) -> None:
    """Sum over channels, in channel order; `out` is [tokens]."""
    out[...] = 0.0
    for channel in range(symbols.shape[1]):
        out += cost[channel, symbols[:, channel]]
