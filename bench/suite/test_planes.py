"""Symbols of values, and their counts, in every backend. Slow ones get the first eighth of the input."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from bench import inputs, rivals
from bench.contest import Contender, Contest, ours_on
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


def compete(
    contest: Contest,
    case: str,
    x: np.ndarray,
    run: Callable[[str, np.ndarray], np.ndarray],
    plain: Callable[[np.ndarray], np.ndarray],
    given: str = "",
) -> None:
    operation = case.split(",", maxsplit=1)[0]
    part = x[: len(x) // 8]
    contest.run(
        case,
        unit="B" if x.dtype == np.float32 else "symbol",
        given=f"{x.dtype} {list(x.shape)}{given}",
        contenders=[
            *ours_on(x, operation, run, x.nbytes, ("cpp",)),
            *ours_on(part, operation, run, part.nbytes, ("numba", "numpy")),
            Contender("plain NumPy", lambda: plain(part), mostly(run("numpy", part)), part.nbytes),
        ],
    )


@pytest.mark.parametrize("scale", ["uniform", "log", "sign", "exponent"])
def test_quantize(contest: Contest, size: Size, scale: str) -> None:
    values = inputs.activations(size(1 << 14, 64), size(1 << 10, 16))
    grid = grid_of(scale, values.shape[1])
    compete(
        contest,
        f"quantize, {scale}",
        values,
        lambda backend, x: ops.quantize(x, grid, backend=backend),
        lambda x: rivals.quantize_numpy(x, scale, grid.low, grid.step, grid.levels),
    )


def test_histogram_of_values(contest: Contest, size: Size) -> None:
    values = inputs.activations(size(1 << 14, 64), size(1 << 10, 16))
    grid = grid_of("log", values.shape[1])

    def plain(x: np.ndarray) -> np.ndarray:
        return rivals.histogram_numpy(rivals.quantize_numpy(x, "log", grid.low, grid.step, LEVELS), grid.alphabet)

    compete(
        contest,
        "histogram, values",
        values,
        lambda backend, x: ops.histogram(x, grid=grid, backend=backend),
        plain,
        f", log grid of {LEVELS} levels",
    )


def test_histogram_of_symbols(contest: Contest, size: Size) -> None:
    tokens, channels, alphabet = size(1 << 14, 64), size(1 << 10, 16), LEVELS + 1
    symbols = inputs.uniform_symbols(tokens * channels, alphabet).reshape(tokens, channels)
    compete(
        contest,
        "histogram, symbols",
        symbols,
        lambda backend, x: ops.histogram(x, alphabet=alphabet, backend=backend),
        lambda x: rivals.histogram_numpy(x, alphabet),
        f", {alphabet} symbols",
    )
