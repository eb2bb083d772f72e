"""Values to bits in one pass, against the rate at which memory can be read at all."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench import inputs, rivals
from bench.contest import Contender, Contest, equal_to, ours
from bench.plugin import Size
from model_forensics import ops

LEVELS = 31  # and a symbol for NaN and Inf: tables of 32
BLOCK = (256, 64)
REDUCE = ("channel", "site", "block")
ROUNDING = 1e-3  # of the bits: costs are rounded to 2^-16, and log2 next to a border can fall on either side


def grid_and_cost(channels: int) -> tuple[ops.Grid, np.ndarray]:
    """A log grid of half an octave a level, a cost table for each channel."""
    low, step = np.full(channels, -8, np.float32), np.full(channels, 0.5, np.float32)
    cost = np.random.default_rng(inputs.SEED).exponential(4.0, (channels, LEVELS + 1)).astype(np.float32)
    return ops.Grid("log", levels=LEVELS, low=low, step=step), cost


def same_sums(reference: tuple[np.ndarray, ...]) -> Any:
    """A check of every reduction, bit for bit."""

    def check(result: tuple[np.ndarray, ...]) -> None:
        for mine, expected in zip(result, reference, strict=True):
            np.testing.assert_array_equal(mine, expected)

    return check


def near(reference: np.ndarray) -> Any:
    return lambda result: np.testing.assert_allclose(result, reference, rtol=ROUNDING)


def fused(backend: str, values: np.ndarray, grid: ops.Grid, cost: np.ndarray) -> tuple[np.ndarray, ...]:
    found = ops.codelength(values, cost, grid=grid, reduce=REDUCE, block=BLOCK, backend=backend)
    return tuple(found)


def test_fused(contest: Contest, size: Size) -> None:
    """What is compared with the reading rate: the same array, larger than any cache, in the same rounds."""
    values = inputs.activations(size(1 << 15, 64), size(1 << 10, 16))
    grid, cost = grid_and_cost(values.shape[1])
    part = values[: size(1 << 11, 32)]
    reference = fused("numpy", values, grid, cost)
    of_part = fused("numpy", part, grid, cost)
    contest.run(
        "codelength, fused",
        unit="B",
        given=f"float32 {list(values.shape)}, log grid and table of {LEVELS + 1} a channel, to {', '.join(REDUCE)}",
        contenders=[
            *ours(
                "codelength",
                lambda backend: fused(backend, values, grid, cost),
                same_sums(reference),
                values.nbytes,
                backends=("cpp", "numba"),
            ),
            *ours(
                "codelength",
                lambda backend: fused(backend, part, grid, cost),
                same_sums(of_part),
                part.nbytes,
                backends=("numpy",),
            ),
            Contender(
                "plain NumPy",
                lambda: rivals.codelength_numpy(part, grid.low, grid.step, cost),
                near(of_part[0]),
                part.nbytes,
            ),
            *(Contender(name, read, anything, values.nbytes) for name, read in rivals.readers(values).items()),
        ],
    )


def anything(_: object) -> None:
    """Readers are there for their time."""


def test_symbols(contest: Contest, size: Size) -> None:
    """The same sums from symbols that are there already."""
    tokens, channels = size(1 << 14, 64), size(1 << 10, 16)
    symbols = inputs.uniform_symbols(tokens * channels, LEVELS + 1).reshape(tokens, channels)
    _, cost = grid_and_cost(channels)
    reference = ops.codelength(symbols, cost, backend="numpy")

    def run(backend: str) -> np.ndarray:
        return ops.codelength(symbols, cost, backend=backend)

    contest.run(
        "codelength, symbols",
        unit="symbol",
        given=f"uint8 {list(symbols.shape)}, table of {LEVELS + 1} a channel, to channel",
        contenders=[
            *ours("codelength", run, equal_to(reference), symbols.size),
            Contender(
                "plain NumPy",
                lambda: rivals.codelength_of_symbols_numpy(symbols, cost),
                near(reference),
                symbols.size,
            ),
        ],
    )


def test_adaptive(contest: Contest, size: Size) -> None:
    values = inputs.activations(size(1 << 13, 64), size(1 << 10, 16))
    grid, _ = grid_and_cost(values.shape[1])
    reference = ops.codelength_adaptive(values, grid=grid, backend="numpy")

    def run(backend: str) -> np.ndarray:
        return ops.codelength_adaptive(values, grid=grid, backend=backend)

    def plain() -> np.ndarray:
        symbols = rivals.quantize_numpy(values, "log", grid.low, grid.step, LEVELS)
        return rivals.codelength_adaptive_numpy(symbols, grid.alphabet)

    contest.run(
        "codelength_adaptive, fused",
        unit="B",
        given=f"float32 {list(values.shape)}, log grid of {LEVELS} levels, to channel",
        contenders=[
            *ours("codelength_adaptive", run, equal_to(reference), values.nbytes),
            Contender("plain NumPy and SciPy, float32", plain, near(reference), values.nbytes),
        ],
    )
