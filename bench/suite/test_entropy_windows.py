"""Entropy over windows of bytes and of symbols."""

from __future__ import annotations

import numpy as np

from bench import inputs, rivals
from bench.contest import Contender, Contest, close_to, equal_to, ours
from bench.plugin import Size
from model_forensics import ops

ROUNDING = 1e-9  # bits; the other versions sum in float64


def compete(contest: Contest, name: str, given: str, x: np.ndarray, alphabet: int, slow: int, unit: str) -> None:
    """256/64 windows; SciPy's loop gets the first `slow` symbols only, and is compared by its rate."""
    reference = ops.entropy_windows(x, alphabet=alphabet, backend="numpy")
    start = x[:slow]
    of_start = reference[: (slow - 256) // 64 + 1]
    contest.run(
        name,
        unit=unit,
        given=given,
        contenders=[
            *ours(
                "entropy_windows",
                lambda backend: ops.entropy_windows(x, alphabet=alphabet, backend=backend),
                equal_to(reference),
                x.size,
            ),
            Contender(
                "plain numba",
                lambda: rivals.entropy_numba(x, 256, 64, alphabet),
                close_to(reference, ROUNDING),
                x.size,
            ),
            Contender(
                "plain NumPy",
                lambda: rivals.entropy_numpy(x, 256, 64, alphabet),
                close_to(reference, ROUNDING),
                x.size,
            ),
            Contender(
                "SciPy loop",
                lambda: rivals.entropy_scipy(start, 256, 64, alphabet),
                close_to(of_start, ROUNDING),
                slow,
            ),
        ],
    )


def test_random_bytes(contest: Contest, size: Size) -> None:
    x = inputs.uniform_symbols(size(1 << 24, 1 << 12), 256)
    given = "random bytes, one row, windows of 256 every 64"
    compete(contest, "entropy_windows, bytes", given, x, 256, size(1 << 15, 1 << 10), "B")


def test_exponent_bytes(contest: Contest, size: Size) -> None:
    x = inputs.exponent_bytes(size(1 << 24, 1 << 12))
    given = "exponents of activations, one row, windows of 256 every 64"
    compete(contest, "entropy_windows, exponent bytes", given, x, 256, size(1 << 15, 1 << 10), "B")


def test_symbols(contest: Contest, size: Size) -> None:
    x = inputs.uniform_symbols(size(1 << 24, 1 << 12), 16)
    given = "16 symbols, random, one row, windows of 256 every 64"
    compete(contest, "entropy_windows, 16 symbols", given, x, 16, size(1 << 15, 1 << 10), "symbol")


def test_ragged_rows(contest: Contest, size: Size) -> None:
    """The shape of the product's own call: hundreds of sites, one row each."""
    x = inputs.uniform_symbols(size(437 * 2560, 437 * 300), 16)
    offsets = np.linspace(0, x.size, 438).astype(np.int64)
    reference = ops.entropy_windows(x, alphabet=16, offsets=offsets, backend="numpy")
    contest.run(
        "entropy_windows, 437 rows",
        unit="symbol",
        given="16 symbols, random, 437 rows of 2,560, windows of 256 every 64",
        contenders=ours(
            "entropy_windows",
            lambda backend: ops.entropy_windows(x, alphabet=16, offsets=offsets, backend=backend),
            equal_to(reference),
            x.size,
        ),
    )
