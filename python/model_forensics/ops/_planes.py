"""Symbols of values on a grid per channel, and how often each occurs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import numpy as np
import numpy.typing as npt

from model_forensics.errors import UsageError
from model_forensics.ops import _check, _dispatch, _sites

Scale = Literal["uniform", "log", "sign", "exponent"]
Shapes = npt.NDArray[np.int64] | Sequence[tuple[int, int]]

SCALES: Final[tuple[Scale, ...]] = get_args(Scale)
"""A backend gets a scale as its index in this list, and SYMBOLS where the data are symbols."""
SYMBOLS: Final = -1

_NONE: Final = np.zeros(0, dtype=np.float32)


@dataclass(frozen=True)
class Grid:
    """How a float32 value becomes a symbol.

    uniform: clip(floor((x − low)/step), 0, levels − 1), in float64. log: the same on log2|x|, by a definition of log2
    that is the same bits in every backend (`_tables.log2`); x = ±0 is symbol 0. On both, NaN and ±Inf are symbol
    `levels`. sign: the sign bit, 0 for + and 1 for −, also of zeros and NaN. exponent: the biased exponent field.

    Attributes:
        scale: "uniform", "log", "sign" or "exponent".
        levels: uniform and log only: number of levels, 1 to 255.
        low: uniform and log only: [channels] float32, finite: where the grid of each channel starts (in log2 units on
            the log scale).
        step: uniform and log only: [channels] float32, finite and above 0: width of a level.

    Raises:
        UsageError: an attribute is not as above.
    """

    scale: Scale
    levels: int | None = None
    low: npt.NDArray[np.float32] | None = None
    step: npt.NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        where = "Grid"
        _check.choice(where, "scale", self.scale, SCALES)
        if self.scale in ("sign", "exponent"):
            if not (self.levels is None and self.low is None and self.step is None):
                raise UsageError(
                    f"scale {self.scale!r} takes neither levels nor low nor step", where=where, cure="Leave them out"
                )
            return
        _check.integer(where, "levels", self.levels, 1, 255)
        low = _check.array(where, "low", self.low, np.float32, 1)
        step = _check.array(where, "step", self.step, np.float32, 1, low.shape)
        if not np.isfinite(low).all():
            raise UsageError("low holds NaN or Inf", where=where, cure="Pass a finite start for each channel")
        if not (np.isfinite(step).all() and (step > 0).all()):
            raise UsageError("step holds a width that is not above 0", where=where, cure="Pass a finite width above 0")
        # Copies that do not change: what is derived from them, their copies on a GPU too, stays right.
        for name, side in (("low", low), ("step", step)):
            own = side.copy()
            own.setflags(write=False)
            object.__setattr__(self, name, own)

    @property
    def alphabet(self) -> int:
        """Number of symbols."""
        if self.scale == "sign":
            return 2
        return 256 if self.scale == "exponent" else int(self.levels or 0) + 1


@dataclass(frozen=True)
class Input:
    """Checked data of an operation, as backends take them.

    Attributes:
        flat: [values] uint8 symbols or float32 values.
        sites: where each site lies.
        grid: `shapes, scale, levels, low, step`, the arguments after the data of every backend.
    """

    flat: npt.NDArray[Any]
    sites: _sites.Sites
    grid: tuple[npt.NDArray[np.int64], int, int, npt.NDArray[np.float32], npt.NDArray[np.float32]]


def read_input(op: str, x: Any, grid: Grid | None, shapes: Any, check: Callable[..., Any] = _check.array) -> Input:
    """Symbols (no grid) or values (with one) of one or many sites; or UsageError. `check` as in `_sites.read`."""
    if grid is None:
        if isinstance(x, np.ndarray) and x.dtype == np.float32:
            raise UsageError("x is float32 and there is no grid", where=op, cure="Pass a Grid, or uint8 symbols")
        flat, sites = _sites.read(op, x, np.uint8, shapes, check)
        return Input(flat, sites, (sites.shapes, SYMBOLS, 0, _NONE, _NONE))
    if not isinstance(grid, Grid):
        raise UsageError(f"grid is a {type(grid).__name__}", where=op, cure="Pass an ops.Grid")
    flat, sites = _sites.read(op, x, np.float32, shapes, check)
    low, step = (_NONE if side is None else side for side in (grid.low, grid.step))
    if grid.low is not None and low.size != sites.channels:
        raise UsageError(
            f"the grid is for {low.size} channels, x has {sites.channels}",
            where=op,
            cure=f"Pass low and step of shape [{sites.channels}]",
        )
    return Input(flat, sites, (sites.shapes, SCALES.index(grid.scale), int(grid.levels or 0), low, step))


def read_alphabet(op: str, alphabet: Any, grid: Grid | None, default: int | None = None) -> int:
    """The alphabet of the grid, or the one given; or UsageError."""
    if grid is None:
        return _check.integer(op, "alphabet", default if alphabet is None else alphabet, 2, 256)
    if alphabet is not None and alphabet != grid.alphabet:
        raise UsageError(
            f"alphabet is {alphabet!r}, that of the grid is {grid.alphabet}", where=op, cure="Leave alphabet out"
        )
    return grid.alphabet


@_dispatch.served_on_gpu
def quantize(
    x: npt.NDArray[np.float32], grid: Grid, *, shapes: Shapes | None = None, backend: str = "auto"
) -> npt.NDArray[np.uint8]:
    """Symbols of values on a grid per channel.

    Args:
        x: [tokens, channels] float32; with `shapes`, [values] float32, many sites one after the other.
        grid: how values become symbols; low and step for the channels of all sites in their order.
        shapes: [sites, 2] int64 or a list of (tokens, channels), one for each site.
        backend: "auto" or the name of a backend.

    Returns:
        uint8 of the shape of x, each below `grid.alphabet`; the same bits in every backend.

    Raises:
        UsageError: an argument is not as above.
        BackendUnavailable: the backend cannot serve.
    """
    op = "quantize"
    choice = _dispatch.select(op, x, backend)
    if grid is None:
        raise UsageError("grid is None", where=op, cure="Pass an ops.Grid")
    data = read_input(op, x, grid, shapes)
    out = np.empty(data.flat.shape, dtype=np.uint8)
    choice.module.quantize(data.flat, *data.grid, out)
    _dispatch.record(choice)
    return out.reshape(x.shape)


@_dispatch.served_on_gpu
def histogram(
    x: npt.NDArray[np.uint8] | npt.NDArray[np.float32],
    *,
    alphabet: int | None = None,
    grid: Grid | None = None,
    shapes: Shapes | None = None,
    backend: str = "auto",
) -> npt.NDArray[np.int64]:
    """How often each symbol occurs in each channel.

    Args:
        x: [tokens, channels] uint8 symbols below `alphabet`, or float32 values with `grid`, which become symbols on the
            way; with `shapes`, [values] of many sites one after the other.
        alphabet: number of symbols, 2 to 256; None: that of the grid, 256 without one.
        grid: how values become symbols.
        shapes: [sites, 2] int64 or a list of (tokens, channels), one for each site.
        backend: "auto" or the name of a backend.

    Returns:
        [channels of all sites, alphabet] int64 counts.

    Raises:
        UsageError: an argument is not as above.
        BackendUnavailable: the backend cannot serve.
    """
    op = "histogram"
    choice = _dispatch.select(op, x, backend)
    data = read_input(op, x, grid, shapes)
    counts = count(op, data, read_alphabet(op, alphabet, grid, 256), choice)
    _dispatch.record(choice)
    return counts


def count(op: str, data: Input, alphabet: int, choice: _dispatch.Choice) -> npt.NDArray[np.int64]:
    """[channels, alphabet] int64."""
    out = np.empty((data.sites.channels, alphabet), dtype=np.int64)
    with naming_symbols(op, data, alphabet):
        choice.module.histogram(data.flat, *data.grid, alphabet, out)
    return out


@contextmanager
def naming_symbols(op: str, data: Input, alphabet: int) -> Iterator[None]:
    """A backend refuses symbols outside the alphabet with ValueError; say which. No pass over the data otherwise."""
    try:
        yield
    except ValueError:
        if data.flat.dtype == np.uint8:
            _check.symbols_below(op, data.flat, alphabet)
        raise
