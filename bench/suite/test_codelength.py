"""Values to bits in one pass, against the rate at which memory can be read at all."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench import inputs, rivals
from bench.contest import Contender, Contest, ours, ours_on
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


def anything(_: object) -> None:
    """Readers are there for their time."""


def test_fused(contest: Contest, size: Size) -> None:
    """What is compared with the reading rate: the same array, larger than any cache, in the same rounds."""
    values = inputs.activations(size(1 << 15, 64), size(1 << 10, 16))
    grid, cost = grid_and_cost(values.shape[1])
    part = values[: len(values) // 32]

    def run(backend: str, x: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple(ops.codelength(x, cost, grid=grid, reduce=REDUCE, block=BLOCK, backend=backend))

    def contenders(x: np.ndarray, *backends: str) -> list[Contender]:
        check = same_sums(run("numpy", x))
        return ours("codelength", lambda backend: run(backend, x), check, x.nbytes, backends=backends)

    contest.run(
        "codelength, fused",
        unit="B",
        given=f"float32 {list(values.shape)}, log grid and table of {LEVELS + 1} a channel, to {', '.join(REDUCE)}",
        contenders=[
            *contenders(values, "cpp"),
            *contenders(part, "numba", "numpy"),
            Contender(
                "plain NumPy",
                lambda: rivals.codelength_numpy(part, grid.low, grid.step, cost),
                near(run("numpy", part)[0]),
                part.nbytes,
            ),
            *(Contender(name, read, anything, values.nbytes) for name, read in rivals.readers(values).items()),
        ],
    )


def test_symbols(contest: Contest, size: Size) -> None:
    """The same sums from symbols that are there already."""
    tokens, channels = size(1 << 14, 64), size(1 << 10, 16)
    symbols = inputs.uniform_symbols(tokens * channels, LEVELS + 1).reshape(tokens, channels)
    part = symbols[: tokens // 8]
    _, cost = grid_and_cost(channels)

    def run(backend: str, x: np.ndarray) -> np.ndarray:
        return ops.codelength(x, cost, backend=backend)

    contest.run(
        "codelength, symbols",
        unit="symbol",
        given=f"uint8 {list(symbols.shape)}, table of {LEVELS + 1} a channel, to channel",
        contenders=[
            *ours_on(symbols, "codelength", run, symbols.size, ("cpp",)),
            *ours_on(part, "codelength", run, part.size, ("numba", "numpy")),
            Contender(
                "plain NumPy",
                lambda: rivals.codelength_of_symbols_numpy(part, cost),
                near(run("numpy", part)),
                part.size,
            ),
        ],
    )


def test_adaptive(contest: Contest, size: Size) -> None:
    values = inputs.activations(size(1 << 14, 64), size(1 << 10, 16))
    part = values[: len(values) // 8]
    grid, _ = grid_and_cost(values.shape[1])

    def run(backend: str, x: np.ndarray) -> np.ndarray:
        return ops.codelength_adaptive(x, grid=grid, backend=backend)

    def plain() -> np.ndarray:
        symbols = rivals.quantize_numpy(part, "log", grid.low, grid.step, LEVELS)
        return rivals.codelength_adaptive_numpy(symbols, grid.alphabet)

    contest.run(
        "codelength_adaptive, fused",
        unit="B",
        given=f"float32 {list(values.shape)}, log grid of {LEVELS} levels, to channel",
        contenders=[
            *ours_on(values, "codelength_adaptive", run, values.nbytes, ("cpp",)),
            *ours_on(part, "codelength_adaptive", run, part.nbytes, ("numba", "numpy")),
            Contender("plain NumPy and SciPy", plain, near(run("numpy", part)), part.nbytes),
        ],
    )
