"""Symbols of values, and their counts, in every backend."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from bench import inputs, rivals
from bench.contest import Contender, Contest, equal_to, ours
from bench.plugin import Size
from model_forensics import ops

LEVELS = 31
BORDERS = 1e-4  # share of values so close to a level's border that float32 puts them on its other side


def grid_of(scale: str, channels: int) -> ops.Grid:
    if scale in {"sign", "exponent"}:
        return ops.Grid(scale)
    low, step = (-8, 0.5) if scale == "log" else (-4, 0.25)
    return ops.Grid(
        scale, levels=LEVELS, low=np.full(channels, low, np.float32), step=np.full(channels, step, np.float32)
    )


def mostly(reference: np.ndarray) -> Callable[[np.ndarray], None]:
    """A check for symbols or counts that were made in float32."""

    def check(result: np.ndarray) -> None:
        differ = np.abs(result.astype(np.int64) - reference.astype(np.int64)).sum()
        whole = reference.size if reference.dtype == np.uint8 else reference.sum()
        assert differ <= BORDERS * whole, f"{differ} of {whole} differ"

    return check


@pytest.mark.parametrize("scale", ["uniform", "log", "sign", "exponent"])
def test_quantize(contest: Contest, size: Size, scale: str) -> None:
    values = inputs.activations(size(1 << 13, 64), size(1 << 10, 16))
    grid = grid_of(scale, values.shape[1])
    reference = ops.quantize(values, grid, backend="numpy")

    def plain() -> np.ndarray:
        return rivals.quantize_numpy(values, scale, grid.low, grid.step, grid.levels)

    def run(backend: str) -> np.ndarray:
        return ops.quantize(values, grid, backend=backend)

    contest.run(
        f"quantize, {scale}",
        unit="B",
        given=f"float32 {list(values.shape)}",
        contenders=[
            *ours("quantize", run, equal_to(reference), values.nbytes),
            Contender("plain NumPy, float32", plain, mostly(reference), values.nbytes),
        ],
    )


def test_histogram_of_values(contest: Contest, size: Size) -> None:
    values = inputs.activations(size(1 << 13, 64), size(1 << 10, 16))
    grid = grid_of("log", values.shape[1])
    reference = ops.histogram(values, grid=grid, backend="numpy")

    def plain() -> np.ndarray:
        symbols = rivals.quantize_numpy(values, "log", grid.low, grid.step, LEVELS)
        return rivals.histogram_numpy(symbols, grid.alphabet)

    def run(backend: str) -> np.ndarray:
        return ops.histogram(values, grid=grid, backend=backend)

    contest.run(
        "histogram, values",
        unit="B",
        given=f"float32 {list(values.shape)}, log grid of {LEVELS} levels",
        contenders=[
            *ours("histogram", run, equal_to(reference), values.nbytes),
            Contender("plain NumPy, float32", plain, mostly(reference), values.nbytes),
        ],
    )


def test_histogram_of_symbols(contest: Contest, size: Size) -> None:
    tokens, channels, alphabet = size(1 << 14, 64), size(1 << 10, 16), LEVELS + 1
    symbols = inputs.uniform_symbols(tokens * channels, alphabet).reshape(tokens, channels)
    reference = ops.histogram(symbols, alphabet=alphabet, backend="numpy")

    def run(backend: str) -> np.ndarray:
        return ops.histogram(symbols, alphabet=alphabet, backend=backend)

    contest.run(
        "histogram, symbols",
        unit="symbol",
        given=f"uint8 {list(symbols.shape)}, {alphabet} symbols",
        contenders=[
            *ours("histogram", run, equal_to(reference), symbols.size),
            Contender(
                "plain NumPy",
                lambda: rivals.histogram_numpy(symbols, alphabet),
                equal_to(reference),
                symbols.size,
            ),
        ],
    )
