"""The operations as CUDA kernels, on torch tensors in GPU memory; functions and arguments as in the public modules.

Results are new tensors on the same device. Work is queued on torch's current stream. Parameters (grids, costs, shapes,
offsets) are NumPy arrays and are moved; data never is. Two things are read back, which waits for the stream: a flag if
symbols come in with an alphabet below 256, because one outside it is an error here as everywhere; and the counts of
`codelength_adaptive`, whose formula is evaluated in one place.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from model_forensics import _core_cuda
from model_forensics.errors import UsageError
from model_forensics.ops import _check, _codelength, _device, _planes, _sites, _tables
from model_forensics.ops._arrays import Integers
from model_forensics.ops._cuda_arithmetic import arithmetic_decode, arithmetic_encode
from model_forensics.ops._planes import Grid, Shapes

__all__ = [
    "arithmetic_decode",
    "arithmetic_encode",
    "codelength",
    "codelength_adaptive",
    "compiler",
    "entropy_windows",
    "histogram",
    "missing",
    "quantize",
]

compiler: Final = _core_cuda.compiler

_WIDE_TILE: Final = 128
_NO_BLOCK: Final = (0, 0)


def missing(on_gpu: bool) -> str:
    """Why it cannot serve, or ""."""
    if not torch.cuda.is_available():
        return "torch sees no CUDA GPU"
    return "" if on_gpu else "the data is in host memory"


def quantize(x: torch.Tensor, grid: Grid, *, shapes: Shapes | None = None) -> torch.Tensor:
    op = "quantize"
    if grid is None:
        raise UsageError("grid is None", where=op, cure="Pass an ops.Grid")
    data = _planes.read_input(op, x, grid, shapes, _device.tensor)
    symbols = torch.empty(x.shape, dtype=torch.uint8, device=x.device)
    with _device.guard(x.device):
        work = _Work(op, data, grid.alphabet, _WIDE_TILE)
        _core_cuda.quantize(work.input, work.plan, symbols.data_ptr(), work.stream)
    return symbols


def histogram(
    x: torch.Tensor, *, alphabet: int | None = None, grid: Grid | None = None, shapes: Shapes | None = None
) -> torch.Tensor:
    op = "histogram"
    data = _planes.read_input(op, x, grid, shapes, _device.tensor)
    return _count(op, data, _planes.read_alphabet(op, alphabet, grid, 256))


def codelength(
    x: torch.Tensor,
    cost: npt.NDArray[np.float32] | _codelength.CostTable,
    *,
    grid: Grid | None = None,
    tables: npt.NDArray[np.int32] | None = None,
    shapes: Shapes | None = None,
    reduce: Any = "channel",
    block: tuple[int, int] | None = None,
) -> Any:
    op = "codelength"
    data = _planes.read_input(op, x, grid, shapes, _device.tensor)
    call = _codelength.read_call(op, data, cost, grid, tables, reduce, block)
    alphabet = call.costs.units.shape[1]
    with _device.guard(x.device):
        units = _device.to_device(call.costs.units, x.device).T.contiguous()
        table_of = _device.to_device(call.tables, x.device)
        work = _Work(op, data, alphabet, _core_cuda.tile_channels(alphabet), call.block, units, table_of)
        sums = {name: torch.zeros(call.size(name), dtype=torch.int64, device=x.device) for name in call.wanted}
        _core_cuda.codelength(
            work.input,
            work.plan,
            units.data_ptr(),
            units.shape[1],
            table_of.data_ptr() if table_of.numel() else 0,
            call.costs.largest,
            _core_cuda.Sums(
                **{name: total.data_ptr() for name, total in sums.items()},
                block_tokens=call.block[0],
                block_channels=call.block[1],
            ),
            work.stream,
        )
        work.check()
        bits = {name: total.to(torch.float64) * 2.0**-_tables.COST_BITS for name, total in sums.items()}
    return _codelength.arrange(bits, reduce, data.sites, call.block)


def codelength_adaptive(
    x: torch.Tensor,
    *,
    alphabet: int | None = None,
    grid: Grid | None = None,
    shapes: Shapes | None = None,
    reduce: Any = "channel",
    block: tuple[int, int] | None = None,
) -> Any:
    op = "codelength_adaptive"
    symbols = _planes.read_alphabet(op, alphabet, grid)
    data = _planes.read_input(op, x, grid, shapes, _device.tensor)
    bits = _codelength.adaptive(op, data, symbols, reduce, block, lambda part: _count(op, part, symbols).cpu().numpy())
    if isinstance(bits, tuple):
        return tuple(torch.from_numpy(part).to(x.device) for part in bits)
    return torch.from_numpy(bits).to(x.device)


def entropy_windows(
    x: torch.Tensor, *, window: int = 256, stride: int = 64, alphabet: int = 256, offsets: Integers | None = None
) -> torch.Tensor:
    """With an alphabet below 256 the maximum of `x` is taken first, in a pass of its own."""
    op = "entropy_windows"
    symbols = _device.tensor(op, "x", x, np.uint8, 1)
    window = _check.integer(op, "window", window, 1, _tables.MAX_WINDOW)
    stride = _check.integer(op, "stride", stride, 1, np.iinfo(np.int32).max)
    alphabet = _check.integer(op, "alphabet", alphabet, 2, 256)
    rows = _check.row_offsets(op, offsets, symbols.numel())
    with _device.guard(x.device):
        if alphabet < 256 and symbols.numel() and int(symbols.max()) >= alphabet:
            raise _outside(op, alphabet)
        plan = _window_plan(rows.tobytes(), window, stride, x.device)
        gains = _gains(window, x.device)
        bits = torch.empty(plan.windows, dtype=torch.float64, device=x.device)
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


def _count(op: str, data: _planes.Input, alphabet: int) -> torch.Tensor:
    """[channels, alphabet] int64."""
    device = _tensor_of(data).device
    counts = torch.zeros((data.sites.channels, alphabet), dtype=torch.int64, device=device)
    with _device.guard(device):
        work = _Work(op, data, alphabet, _core_cuda.tile_channels(alphabet))
        _core_cuda.histogram(work.input, work.plan, counts.data_ptr(), work.stream)
        work.check()
    return counts


class _Work:
    """What a launch over sites is given; holds what must live until it is queued."""

    def __init__(
        self,
        op: str,
        data: _planes.Input,
        alphabet: int,
        tile_channels: int,
        block: _sites.Block = _NO_BLOCK,
        *parameters: torch.Tensor,
    ) -> None:
        self._op = op
        self._alphabet = alphabet
        values = _tensor_of(data)
        shapes, scale, levels, low, step = data.grid
        of_symbols = scale == _planes.SYMBOLS
        self._outside = torch.zeros(int(of_symbols), dtype=torch.int32, device=values.device)
        self._sides = tuple(_device.to_device(side, values.device) for side in (low, step))
        self.plan, sites = _plan(shapes.tobytes(), tile_channels, block, values.device)
        self.input = _core_cuda.Input(
            scale="symbols" if of_symbols else _planes.SCALES[scale],
            values=values.data_ptr(),
            low=self._sides[0].data_ptr(),
            step=self._sides[1].data_ptr(),
            levels=levels,
            alphabet=alphabet,
            outside=self._outside.data_ptr(),
        )
        self.stream = _device.stream(sites, *self._sides, *parameters)

    def check(self) -> None:
        """After the launch: every symbol was in the alphabet, or UsageError."""
        if self._alphabet < 256 and self._outside.numel() and int(self._outside.item()):
            raise _outside(self._op, self._alphabet)


@lru_cache(maxsize=64)
def _plan(
    shapes: bytes, tile_channels: int, block: _sites.Block, device: torch.device
) -> tuple[_core_cuda.DevicePlan, torch.Tensor]:
    """The plan, and the tensor that it points to. Calls with the same shapes make and move it once."""
    pairs = np.frombuffer(shapes, dtype=np.int64).reshape(-1, 2)
    table, _, tile_tokens = _core_cuda.plan_sites(pairs, tile_channels, *block)
    sites = _device.to_device(table, device)
    plan = _core_cuda.DevicePlan(
        sites=sites.data_ptr(),
        count=len(pairs),
        tiles=int(table[-1, -1]),
        tile_channels=tile_channels,
        tile_tokens=tile_tokens,
    )
    return plan, sites


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


def _tensor_of(data: _planes.Input) -> torch.Tensor:
    flat: Any = data.flat
    assert isinstance(flat, torch.Tensor)
    return flat


def _outside(op: str, alphabet: int) -> UsageError:
    return UsageError(
        f"a symbol is outside the alphabet of {alphabet}",
        where=op,
        cure="Pass the alphabet that the symbols were made with (quantize makes levels + 1)",
    )
