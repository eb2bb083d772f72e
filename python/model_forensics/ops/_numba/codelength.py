"""Sums of costs."""

from __future__ import annotations

import numpy as np

from model_forensics.ops._arrays import Bits, Floats, Symbols
from model_forensics.ops._numba.compiled import compiled


def codelength_per_channel(symbols: Symbols, cost: Floats, out: Bits) -> None:
    """Sum over tokens, in token order; `out` is [channels]."""
    out[...] = 0.0
    _codelength_per_channel(symbols, cost, out)


def codelength_per_token(symbols: Symbols, cost: Floats, out: Bits) -> None:
    """Sum over channels, in channel order; `out` is [tokens]."""
    out[...] = 0.0
    _codelength_per_token(symbols, cost, out)


@compiled
def _codelength_per_channel(symbols: Symbols, cost: Floats, out: Bits) -> None:
    for token in range(symbols.shape[0]):
        for channel in range(symbols.shape[1]):
            out[channel] += np.float64(cost[channel, symbols[token, channel]])


@compiled
def _codelength_per_token(symbols: Symbols, cost: Floats, out: Bits) -> None:
    for token in range(symbols.shape[0]):
        for channel in range(symbols.shape[1]):
            out[token] += np.float64(cost[channel, symbols[token, channel]])
