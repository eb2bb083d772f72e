"""Symbols of values, and their counts, in every backend."""

from __future__ import annotations

import numpy as np
import pytest

from bench import inputs
from bench.contest import Contender, Contest, equal_to, ours
from bench.plugin import Size
from model_forensics import ops

LEVELS = 31


def grid_of(scale: str, channels: int) -> ops.Grid:
    if scale in {"sign", "exponent"}:
        return ops.Grid(scale)
    low, step = (-8, 0.5) if scale == "log" else (-4, 0.25)
    return ops.Grid(
        scale, levels=LEVELS, low=np.full(channels, low, np.float32), step=np.full(channels, step, np.float32)
    )


@pytest.mark.parametrize("scale", ["uniform", "log", "sign", "exponent"])
def test_quantize(contest: Contest, size: Size, scale: str) -> None:
    values = inputs.activations(size(1 << 13, 64), size(1 << 10, 16))
    grid = grid_of(scale, values.shape[1])
    reference = ops.quantize(values, grid, backend="numpy")
    contest.run(
        f"quantize, {scale}",
        unit="B",
        given=f"float32 {list(values.shape)}",
        contenders=ours(
            "quantize", lambda backend: ops.quantize(values, grid, backend=backend), equal_to(reference), values.nbytes
        ),
    )


def test_histogram_of_values(contest: Contest, size: Size) -> None:
    values = inputs.activations(size(1 << 13, 64), size(1 << 10, 16))
    grid = grid_of("log", values.shape[1])
    reference = ops.histogram(values, grid=grid, backend="numpy")
    contest.run(
        "histogram, values",
        unit="B",
        given=f"float32 {list(values.shape)}, log grid of {LEVELS} levels",
        contenders=ours(
            "histogram",
            lambda backend: ops.histogram(values, grid=grid, backend=backend),
            equal_to(reference),
            values.nbytes,
        ),
    )


def test_histogram_of_symbols(contest: Contest, size: Size) -> None:
    tokens, channels, alphabet = size(1 << 14, 64), size(1 << 10, 16), LEVELS + 1
    symbols = inputs.uniform_symbols(tokens * channels, alphabet).reshape(tokens, channels)
    reference = ops.histogram(symbols, alphabet=alphabet, backend="numpy")
    keys = np.arange(channels) * alphabet

    def bincount() -> np.ndarray:
        return np.bincount((symbols + keys).ravel(), minlength=channels * alphabet).reshape(channels, alphabet)

    contest.run(
        "histogram, symbols",
        unit="symbol",
        given=f"uint8 {list(symbols.shape)}, {alphabet} symbols",
        contenders=[
            *ours(
                "histogram",
                lambda backend: ops.histogram(symbols, alphabet=alphabet, backend=backend),
                equal_to(reference),
                symbols.size,
            ),
            Contender("one NumPy bincount", bincount, equal_to(reference), symbols.size),
        ],
    )
