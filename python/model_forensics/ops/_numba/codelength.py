"""Sums of integer costs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from model_forensics.ops._arrays import Floats, Integers, Symbols
from model_forensics.ops._numba.compiled import compiled
from model_forensics.ops._numba.planes import sources, symbol_of
from model_forensics.ops._numpy.planes import SYMBOLS, refuse_outside

Costs = npt.NDArray[np.int32]


def codelength(
    data: Symbols | Floats,
    shapes: Integers,
    scale: int,
    levels: int,
    low: Floats,
    step: Floats,
    cost: Costs,
    tables: Costs,
    block_tokens: int,
    block_channels: int,
    channel: Integers,
    token: Integers,
    site: Integers,
    cell: Integers,
) -> None:
    """Sums per channel, token, site and block of all sites; an empty output is not wanted."""
    refuse_outside(data, scale, cost.shape[1])
    for out in (channel, token, site, cell):
        out[...] = 0
    block = max(1, block_tokens), max(1, block_channels)
    _codelength(
        *sources(data, scale), shapes, scale, levels, low, step, cost, tables, *block, channel, token, site, cell
    )


@compiled
def _codelength(
    symbols: Symbols,
    values: Floats,
    bits: npt.NDArray[np.uint32],
    shapes: Integers,
    scale: int,
    levels: int,
    low: Floats,
    step: Floats,
    cost: Costs,
    tables: Costs,
    block_tokens: int,
    block_channels: int,
    channel_out: Integers,
    token_out: Integers,
    site_out: Integers,
    cell_out: Integers,
) -> None:
    i = 0
    first = 0
    token = 0
    first_cell = 0
    for site in range(shapes.shape[0]):
        tokens, channels = shapes[site, 0], shapes[site, 1]
        across = (channels + block_channels - 1) // block_channels
        total = np.int64(0)
        for row in range(tokens):
            row_cell = first_cell + row // block_tokens * across
            row_total = np.int64(0)
            for column in range(channels):
                channel = first + column
                if scale == SYMBOLS:
                    symbol = np.int64(symbols[i])
                else:
                    start = np.float64(low[channel]) if low.size else 0.0
                    width = np.float64(step[channel]) if low.size else 1.0
                    value = np.float64(values[i])
                    symbol = np.int64(symbol_of(value, bits[i], scale, levels, start, width))
                paid = np.int64(cost[tables[channel] if tables.size else channel, symbol])
                row_total += paid
                if channel_out.size:
                    channel_out[channel] += paid
                if cell_out.size:
                    cell_out[row_cell + column // block_channels] += paid
                i += 1
            if token_out.size:
                token_out[token] = row_total
            total += row_total
            token += 1
        if site_out.size:
            site_out[site] = total
        first += channels
        first_cell += (tokens + block_tokens - 1) // block_tokens * across
