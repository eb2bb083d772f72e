"""Bits that symbols cost under static and adaptive models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal, get_args

import numpy as np
import numpy.typing as npt

from model_forensics.errors import UsageError
from model_forensics.ops import _check, _dispatch, _planes, _sites, _tables
from model_forensics.ops._planes import Grid, Shapes

Reduce = Literal["channel", "token", "site", "block"]
Adaptive = Literal["channel", "site", "block"]
Bits = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

REDUCTIONS: Final[tuple[Reduce, ...]] = get_args(Reduce)
ADAPTIVE: Final[tuple[Adaptive, ...]] = get_args(Adaptive)
LARGEST_COST: Final = 2.0**15
_BATCH: Final = 1 << 20
"""Counts that block by block adaptive codelengths take at a time."""


@dataclass(frozen=True)
class CostTable:
    """Costs made ready: worth keeping where the same costs serve many calls.

    Costs become integers once, in units of 2^-16 bits, so that sums are exact in any order.

    Attributes:
        units: [tables, alphabet] int32, read-only.
    """

    units: npt.NDArray[np.int32]

    @staticmethod
    def of(cost: npt.NDArray[np.float32]) -> CostTable:
        """From [tables, alphabet] float32 bits, finite and below 2^15 in magnitude; negative ones are allowed.

        Raises:
            UsageError: `cost` is not as above. An impossible symbol has no finite cost: give it a large one.
        """
        where = "CostTable"
        checked: npt.NDArray[np.float32] = _check.array(where, "cost", cost, np.float32, 2)
        _check.integer(where, "the number of columns of cost", checked.shape[1], 1, 256)
        units = np.rint(checked.astype(np.float64) * 2.0**_tables.COST_BITS)
        limit = LARGEST_COST * 2.0**_tables.COST_BITS
        if not (np.abs(units) < limit).all():  # NaN compares false
            raise UsageError(
                "cost holds NaN, Inf or a magnitude of 32768 bits or more",
                where=where,
                cure="Pass finite bits below 2^15 in magnitude",
            )
        made = units.astype(np.int32)
        made.setflags(write=False)
        return CostTable(made)

    @cached_property
    def largest(self) -> int:
        """The largest magnitude."""
        return max(-int(self.units.min(initial=0)), int(self.units.max(initial=0)))


@_dispatch.served_on_gpu
def codelength(
    x: npt.NDArray[np.uint8] | npt.NDArray[np.float32],
    cost: npt.NDArray[np.float32] | CostTable,
    *,
    grid: Grid | None = None,
    tables: npt.NDArray[np.int32] | None = None,
    shapes: Shapes | None = None,
    reduce: Reduce | tuple[Reduce, ...] = "channel",
    block: tuple[int, int] | None = None,
    backend: str = "auto",
) -> Any:
    """Bits that symbols cost under a static model per channel: Σ cost[table of the channel, symbol], in one pass.

    Costs are rounded to units of 2^-16 bits and summed as integers: every backend, instruction set and number of
    threads gives the same bits.

    Args:
        x: [tokens, channels] uint8 symbols, or float32 values with `grid`, which become symbols on the way; with
            `shapes`, [values] of many sites one after the other.
        cost: [tables, alphabet] float32 bits of each symbol, finite, below 2^15 in magnitude, negative ones allowed;
            or a CostTable made of them.
        grid: how values become symbols; its alphabet is that of `cost`.
        tables: [channels of all sites] int32, the table that each channel uses; None: table c for channel c.
        shapes: [sites, 2] int64 or a list of (tokens, channels), one for each site.
        reduce: what remains after the sum: "channel", "token", "site", "block", or a tuple of these names.
        block: (tokens, channels) of a block, for "block"; blocks at the ends of a site may be smaller.
        backend: "auto" or the name of a backend.

    Returns:
        float64 bits; for a tuple of names, a tuple of arrays. channel: [channels of all sites]. token: [tokens of all
        sites]. site: [sites], for a single [tokens, channels] array []. block: [⌈tokens/bt⌉, ⌈channels/bc⌉], with
        `shapes` [blocks of all sites], each site's row by row.

    Raises:
        UsageError: an argument is not as above.
        BackendUnavailable: the backend cannot serve.
    """
    op = "codelength"
    choice = _dispatch.select(op, x, backend)
    data = _planes.read_input(op, x, grid, shapes)
    call = read_call(op, data, cost, grid, tables, reduce, block)
    sums = {name: np.empty(call.size(name), dtype=np.int64) for name in call.wanted}
    none = np.empty(0, dtype=np.int64)
    with _planes.naming_symbols(op, data, call.costs.units.shape[1]):
        choice.module.codelength(
            data.flat,
            *data.grid,
            call.costs.units,
            call.tables,
            *call.block,
            *(sums.get(name, none) for name in REDUCTIONS),
        )
    _dispatch.record(choice)
    bits = {name: np.ldexp(units.astype(np.float64), -_tables.COST_BITS) for name, units in sums.items()}
    return arrange(bits, reduce, data.sites, call.block)


@_dispatch.served_on_gpu
def codelength_adaptive(
    x: npt.NDArray[np.uint8] | npt.NDArray[np.float32],
    *,
    alphabet: int | None = None,
    grid: Grid | None = None,
    shapes: Shapes | None = None,
    reduce: Adaptive | tuple[Adaptive, ...] = "channel",
    block: tuple[int, int] | None = None,
    backend: str = "auto",
) -> Any:
    """Bits that each channel costs under an adaptive model that starts knowing nothing.

    The Krichevsky–Trofimov estimator (1981): P(next = k) = (n_k + ½)/(n + alphabet/2). Its product over a sequence
    depends on the counts only, so the codelength is exact from the histogram:
    log2 Γ(n + A/2)/Γ(A/2) − Σ_k log2 Γ(n_k + ½)/Γ(½).

    Args:
        x: [tokens, channels] uint8 symbols below `alphabet`, or float32 values with `grid`; with `shapes`, [values] of
            many sites one after the other.
        alphabet: number of symbols A, 2 to 256; None: that of the grid.
        grid: how values become symbols.
        shapes: [sites, 2] int64 or a list of (tokens, channels), one for each site.
        reduce: "channel"; "site", the sum over its channels; "block", the sum over the channels of a block, each of
            whose models starts anew in the block; or a tuple of these names.
        block: (tokens, channels) of a block, for "block".
        backend: "auto" or the name of a backend (it counts; the formula is evaluated in one place).

    Returns:
        float64 bits in the shapes of `codelength`; 0 without tokens.

    Raises:
        UsageError: an argument is not as above.
        BackendUnavailable: the backend cannot serve.
    """
    op = "codelength_adaptive"
    choice = _dispatch.select(op, x, backend)
    symbols = _planes.read_alphabet(op, alphabet, grid)
    data = _planes.read_input(op, x, grid, shapes)
    bits = adaptive(op, data, symbols, reduce, block, lambda part: _planes.count(op, part, symbols, choice))
    _dispatch.record(choice)
    return bits


@dataclass(frozen=True)
class Call:
    """Checked arguments of `codelength`, as backends take them.

    Attributes:
        costs: [tables, alphabet].
        tables: [channels] int32, or [0] where channel c has table c.
        wanted: names of reductions.
        block: tokens and channels, (0, 0) where no blocks are wanted.
        sites: what the data are of.
    """

    costs: CostTable
    tables: npt.NDArray[np.int32]
    wanted: set[str]
    block: _sites.Block
    sites: _sites.Sites

    def size(self, name: str) -> int:
        """Sums that a reduction has."""
        if name == "block":
            return int(self.sites.grid_of_blocks(self.block).prod(axis=1).sum())
        return {"channel": self.sites.channels, "token": self.sites.tokens, "site": len(self.sites.shapes)}[name]


def read_call(op: str, data: _planes.Input, cost: Any, grid: Grid | None, tables: Any, reduce: Any, block: Any) -> Call:
    """The arguments beside the data; or UsageError."""
    costs = cost if isinstance(cost, CostTable) else CostTable.of(cost)
    alphabet = costs.units.shape[1]
    if grid is not None and alphabet != grid.alphabet:
        raise UsageError(
            f"cost has {alphabet} columns, the alphabet of the grid is {grid.alphabet}",
            where=op,
            cure="Pass a cost for each symbol of the grid, that of nonfinite values included",
        )
    table_of = _read_tables(op, tables, costs.units.shape[0], data.sites.channels)
    wanted = _read_reduce(op, reduce, REDUCTIONS)
    size = _read_block(op, block, "block" in wanted)
    _require_exact(op, data.flat.shape[0], costs)
    return Call(costs, table_of, wanted, size, data.sites)


def adaptive(
    op: str, data: _planes.Input, alphabet: int, reduce: Any, block: Any, count: Callable[[_planes.Input], Counts]
) -> Any:
    """`codelength_adaptive` from [channels, alphabet] int64 counts."""
    wanted = _read_reduce(op, reduce, ADAPTIVE)
    size = _read_block(op, block, "block" in wanted)
    bits: dict[str, Bits] = {}
    if "channel" in wanted or "site" in wanted:
        tokens = np.repeat(data.sites.shapes[:, 0], data.sites.shapes[:, 1])
        bits["channel"] = _tables.adaptive_bits(count(data), tokens)
        bits["site"] = data.sites.sum_per_site(bits["channel"])
    if "block" in wanted:
        bits["block"] = _adaptive_blocks(data, alphabet, size, count)
    return arrange(bits, reduce, data.sites, size)


def _adaptive_blocks(
    data: _planes.Input, alphabet: int, size: _sites.Block, count: Callable[[_planes.Input], Counts]
) -> Bits:
    """Rows of blocks are counted as sites of their own, in batches."""
    shapes, scale, levels, low, step = data.grid
    found = [np.zeros(0)]
    value = channel = 0
    for tokens, channels in shapes.tolist():
        rows_at_once = max(1, _BATCH // max(1, channels * alphabet)) * size[0]
        grid = tuple(side[channel : channel + channels] if side.size else side for side in (low, step))
        for first in range(0, tokens if channels else 0, rows_at_once):
            part_tokens = min(rows_at_once, tokens - first)
            starts = np.arange(0, part_tokens, size[0], dtype=np.int64)
            rows = np.stack([np.minimum(size[0], part_tokens - starts), np.full(starts.size, channels)], axis=1)
            begin = value + first * channels
            part = data.flat[begin : begin + part_tokens * channels]
            repeated = tuple(np.tile(side, starts.size) for side in grid)
            batch = _planes.Input(part, _sites.Sites(rows, False), (rows, scale, levels, repeated[0], repeated[1]))
            bits = _tables.adaptive_bits(count(batch), np.repeat(rows[:, 0], channels)).reshape(-1, channels)
            found.append(np.add.reduceat(bits, np.arange(0, channels, size[1]), axis=1).ravel())
        value += tokens * channels
        channel += channels
    return np.concatenate(found)


def _read_tables(op: str, tables: Any, count: int, channels: int) -> npt.NDArray[np.int32]:
    """[channels] int32, or [0] where channel c has table c."""
    if tables is None:
        if count != channels:
            raise UsageError(
                f"cost has {count} tables, x has {channels} channels",
                where=op,
                cure=f"Pass cost of shape [{channels}, alphabet], or tables: the table of each channel",
            )
        return np.zeros(0, dtype=np.int32)
    checked: npt.NDArray[np.int32] = _check.array(op, "tables", tables, np.int32, 1, (channels,))
    if checked.size and not (checked.min() >= 0 and checked.max() < count):
        raise UsageError(
            "tables names a table that is not there", where=op, cure=f"Pass numbers from 0 to {count - 1}, rows of cost"
        )
    return checked


def _read_reduce(op: str, reduce: Any, accepted: tuple[str, ...]) -> set[str]:
    names = reduce if isinstance(reduce, tuple) else (reduce,)
    if not names:
        raise UsageError("reduce is empty", where=op, cure=f"Choose some of {', '.join(map(repr, accepted))}")
    return {_check.choice(op, "reduce", name, accepted) for name in names}


def _read_block(op: str, block: Any, wanted: bool) -> _sites.Block:
    """(0, 0) where no blocks are wanted."""
    if wanted:
        return _sites.block_of(op, block)
    if block is not None:
        raise UsageError("block is given without reduce='block'", where=op, cure="Leave it out, or add 'block'")
    return 0, 0


def _require_exact(op: str, values: int, costs: CostTable) -> None:
    if values > 1 << 32 and values * costs.largest > np.iinfo(np.int64).max:
        raise UsageError(
            "the sums could exceed 63 bits", where=op, cure="Pass smaller costs, or fewer values at a time"
        )


def arrange(bits: dict[str, Any], reduce: Any, sites: _sites.Sites, block: _sites.Block) -> Any:
    """Arrays or tensors in the order and shape that was asked for."""
    if sites.single:
        if "site" in bits:
            bits["site"] = bits["site"].reshape(())
        if "block" in bits:
            bits["block"] = bits["block"].reshape(sites.grid_of_blocks(block)[0].tolist())
    return tuple(bits[name] for name in reduce) if isinstance(reduce, tuple) else bits[reduce]
