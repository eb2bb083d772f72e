"""The operations as CUDA kernels, on torch tensors in GPU memory.

Results are new tensors on the same device. Everything is queued on torch's current stream. Parameters (grids, costs,
shapes, offsets) are NumPy arrays and are moved; data never is. Where symbols come in with an alphabet below 256, one flag
is read back, which waits for the stream: a symbol outside the alphabet is an error here as everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from model_forensics import _core_cuda
from model_forensics.errors import UsageError
from model_forensics.ops import _check, _device, _tables
from model_forensics.ops._arrays import Integers
from model_forensics.ops._arrays import Integers as Grid  # TODO

compiler: str = _core_cuda.compiler

_WIDE_TILE = 128
_COST_UNIT = 2.0**-16


def missing(on_gpu: bool) -> str:
    """Why it cannot serve, or ""."""
    if not torch.cuda.is_available():
        return "torch sees no CUDA GPU"
    return "" if on_gpu else "the data is in host memory"


@dataclass(frozen=True)
class _Plan:
    """The tiles of a call on its device, and how long the results are."""

    device: _core_cuda.DevicePlan
    sites: torch.Tensor  # what `device` points to
    channels: int
    tokens: int
    count: int
    blocks: int


@lru_cache(maxsize=64)
def _plan(shapes: bytes, tile_channels: int, block: tuple[int, int], device: torch.device) -> _Plan:
    """Calls with the same shapes again and again make and move their plan once."""
    pairs = np.frombuffer(shapes, dtype=np.int64).reshape(-1, 2)
    table, _, tile_tokens = _core_cuda.plan_sites(pairs, tile_channels, *block)
    sites = _device.to_device(table, device)
    _, _, _, channels, tokens, blocks, tiles = table[-1].tolist()
    on_device = _core_cuda.DevicePlan(
        sites=sites.data_ptr(), count=len(pairs), tiles=tiles, tile_channels=tile_channels, tile_tokens=tile_tokens
    )
    return _Plan(on_device, sites, channels, tokens, len(pairs), blocks)


class _Input:
    """Symbols, or values with their grid, and what must stay alive until the launch is queued."""

    def __init__(self, op: str, data: torch.Tensor, alphabet: int, grid: Grid | None) -> None:
        self._op = op
        self._alphabet = alphabet
        self._outside = torch.zeros(1, dtype=torch.int32, device=data.device) if grid is None else None
        self._grid = (
            ()
            if grid is None or grid.low is None or grid.step is None
            else (
                _device.to_device(grid.low, data.device),
                _device.to_device(grid.step, data.device),
            )
        )
        low, step = (part.data_ptr() for part in self._grid) if self._grid else (0, 0)
        self.native = _core_cuda.Input(
            scale="symbols" if grid is None else grid.scale,
            values=data.data_ptr(),
            low=low,
            step=step,
            levels=0 if grid is None or grid.levels is None else grid.levels,
            alphabet=alphabet,
            outside=0 if self._outside is None else self._outside.data_ptr(),
        )

    def check(self) -> None:
        """After the launch: every symbol was in the alphabet, or UsageError."""
        if self._outside is None or self._alphabet == 256 or not int(self._outside.item()):
            return
        raise _outside(self._op, self._alphabet)


def quantize(values: torch.Tensor, grid: Grid, shapes: Integers) -> torch.Tensor:
    """uint8 symbols, of the shape of `values` (contiguous float32, all sites one after another)."""
    symbols = torch.empty_like(values, dtype=torch.uint8)
    with _device.guard(values.device):
        plan = _plan(shapes.tobytes(), _WIDE_TILE, (0, 0), values.device)
        given = _Input("quantize", values, grid.alphabet, grid)
        _core_cuda.quantize(given.native, plan.device, symbols.data_ptr(), _device.stream(plan.sites))
    return symbols


def histogram(op: str, data: torch.Tensor, alphabet: int, grid: Grid | None, shapes: Integers) -> torch.Tensor:
    """int64 counts [all channels, alphabet]."""
    with _device.guard(data.device):
        plan = _plan(shapes.tobytes(), _core_cuda.tile_channels(alphabet), (0, 0), data.device)
        counts = torch.zeros((plan.channels, alphabet), dtype=torch.int64, device=data.device)
        given = _Input(op, data, alphabet, grid)
        _core_cuda.histogram(given.native, plan.device, counts.data_ptr(), _device.stream(plan.sites))
        given.check()
    return counts


def codelength(
    data: torch.Tensor,
    cost: Integers,
    tables: Integers | None,
    grid: Grid | None,
    shapes: Integers,
    reduce: Sequence[str],
    block: tuple[int, int],
) -> dict[str, torch.Tensor]:
    """float64 bits for each name in `reduce`, 1-D through all sites, from one pass.

    Args:
        cost: [tables, alphabet] int32 in units of 2^-16 bits.
        tables: [all channels] int32, or None for a table a channel.
        block: (0, 0) unless "block" is wanted.
    """
    alphabet = cost.shape[1]
    with _device.guard(data.device):
        plan = _plan(shapes.tobytes(), _core_cuda.tile_channels(alphabet), block, data.device)
        lengths = {"channel": plan.channels, "token": plan.tokens, "site": plan.count, "block": plan.blocks}
        sums = {name: torch.zeros(lengths[name], dtype=torch.int64, device=data.device) for name in reduce}
        given = _Input("codelength", data, alphabet, grid)
        costs = _device.to_device(cost, data.device)
        chosen = None if tables is None else _device.to_device(tables, data.device)
        _core_cuda.codelength(
            given.native,
            plan.device,
            costs.data_ptr(),
            0 if chosen is None else chosen.data_ptr(),
            _core_cuda.Sums(
                **{name: total.data_ptr() for name, total in sums.items()},
                block_tokens=block[0],
                block_channels=block[1],
            ),
            _device.stream(plan.sites),
        )
        given.check()
        return {name: total.to(torch.float64) * _COST_UNIT for name, total in sums.items()}


@dataclass(frozen=True)
class _WindowPlan:
    rows: torch.Tensor
    windows: int
    sections: int
    section_windows: int


@lru_cache(maxsize=64)
def _window_plan(offsets: bytes, window: int, stride: int, device: torch.device) -> _WindowPlan:
    table, section_windows = _core_cuda.plan_windows(np.frombuffer(offsets, dtype=np.int64), window, stride)
    _, windows, sections = table[-1].tolist()
    return _WindowPlan(_device.to_device(table, device), windows, sections, section_windows)


@lru_cache(maxsize=8)
def _gains(window: int, device: torch.device) -> torch.Tensor:
    """[window] int64: what one more of a symbol adds to the cost."""
    return _device.to_device(np.diff(_tables.window_costs(window)), device)


def entropy_windows(
    x: torch.Tensor, *, window: int, stride: int, alphabet: int, offsets: Integers | None
) -> torch.Tensor:
    """float64 bits of every window of every row. With an alphabet below 256 the maximum of `x` is taken first."""
    op = "entropy_windows"
    symbols = _device.tensor(op, "x", x, torch.uint8, 1)
    window = _check.integer(op, "window", window, 1, _tables.MAX_WINDOW)
    stride = _check.integer(op, "stride", stride, 1, np.iinfo(np.int32).max)
    alphabet = _check.integer(op, "alphabet", alphabet, 2, 256)
    rows = _check.row_offsets(op, offsets, symbols.numel())
    with _device.guard(symbols.device):
        if alphabet < 256 and symbols.numel() and int(symbols.max()) >= alphabet:
            raise _outside(op, alphabet)
        plan = _window_plan(rows.tobytes(), window, stride, symbols.device)
        gains = _gains(window, symbols.device)
        bits = torch.empty(plan.windows, dtype=torch.float64, device=symbols.device)
        _core_cuda.entropy_windows(
            symbols.data_ptr(),
            plan.rows.data_ptr(),
            rows.size - 1,
            plan.sections,
            plan.section_windows,
            window,
            stride,
            alphabet,
            gains.data_ptr(),
            int(_tables.window_costs(window)[-1]),
            bits.data_ptr(),
            _device.stream(plan.rows, gains),
        )
    return bits


def _outside(op: str, alphabet: int) -> UsageError:
    return UsageError(
        f"a symbol is outside the alphabet of {alphabet}",
        where=op,
        cure="Pass the alphabet that the symbols were made with (quantize makes levels + 1)",
    )
