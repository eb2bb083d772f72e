"""Sums of integer costs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from model_forensics.ops._arrays import Floats, Integers, Symbols
from model_forensics.ops._numpy.planes import parts, refuse_outside

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
    table_of = tables if tables.size else np.arange(int(shapes[:, 1].sum()))
    across = -(-shapes[:, 1] // max(1, block_channels))
    cells = -(-shapes[:, 0] // max(1, block_tokens)) * across
    first_cell = np.cumsum(cells) - cells
    for part in parts(data, shapes, scale, levels, low, step):
        paid = cost[table_of[part.channels], part.symbols].astype(np.int64)
        if channel.size:
            channel[part.channels] += paid.sum(axis=0)
        if token.size:
            token[part.tokens] = paid.sum(axis=1)
        if site.size:
            site[part.site] += paid.sum()
        if cell.size:
            rows, columns = (np.arange(size) for size in paid.shape)
            row_of_blocks = (part.row + rows) // block_tokens
            cell_of = row_of_blocks[:, None] * across[part.site] + columns // block_channels
            np.add.at(cell, first_cell[part.site] + cell_of, paid)
