"""Entropy over windows of bytes and of symbols."""

from __future__ import annotations

import numpy as np

from bench import inputs, rivals
from bench.contest import Contender, Contest, close_to, equal_to, ours
from bench.plugin import Size
from model_forensics import ops

ROUNDING = 1e-9  # bits; the other versions sum in float64


def compete(contest: Contest, name: str, given: str, x: np.ndarray, alphabet: int, unit: str) -> None:
    """256/64 windows. NumPy gets the first eighth only, SciPy's loop some windows; rates are what is compared."""
    reference = ops.entropy_windows(x, alphabet=alphabet, backend="numpy")
    part, few = x[: x.size // 8], x[: x.size // 512 + 512]
    of_part, of_few = (reference[: (one.size - 256) // 64 + 1] for one in (part, few))
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
                backends=("cpp", "numba"),
            ),
            *ours(
                "entropy_windows",
                lambda backend: ops.entropy_windows(part, alphabet=alphabet, backend=backend),
                equal_to(of_part),
                part.size,
                backends=("numpy",),
            ),
            *(
                Contender(name, lambda run=run, y=y: run(y, 256, 64, alphabet), close_to(expected, ROUNDING), y.size)
                for name, run, y, expected in (
                    ("plain numba", rivals.entropy_numba, x, reference),
                    ("plain NumPy", rivals.entropy_numpy, part, of_part),
                    ("SciPy loop", rivals.entropy_scipy, few, of_few),
                )
            ),
        ],
    )


def test_random_bytes(contest: Contest, size: Size) -> None:
    x = inputs.uniform_symbols(size(1 << 24, 1 << 12), 256)
    given = "random bytes, one row, windows of 256 every 64"
    compete(contest, "entropy_windows, bytes", given, x, 256, "B")


def test_exponent_bytes(contest: Contest, size: Size) -> None:
    x = inputs.exponent_bytes(size(1 << 24, 1 << 12))
    given = "exponents of activations, one row, windows of 256 every 64"
    compete(contest, "entropy_windows, exponent bytes", given, x, 256, "B")


def test_symbols(contest: Contest, size: Size) -> None:
    x = inputs.uniform_symbols(size(1 << 24, 1 << 12), 16)
    given = "16 symbols, random, one row, windows of 256 every 64"
    compete(contest, "entropy_windows, 16 symbols", given, x, 16, "symbol")


def test_ragged_rows(contest: Contest, size: Size) -> None:
    """The shape of the product's own call: hundreds of sites, one row each."""
    x = inputs.uniform_symbols(size(437 * 2560, 437 * 300), 16)
    offsets = np.linspace(0, x.size, 438).astype(np.int64)
    reference = ops.entropy_windows(x, alphabet=16, offsets=offsets, backend="numpy")
    rows = np.split(x, offsets[1:-1])
    contest.run(
        "entropy_windows, 437 rows",
        unit="symbol",
        given="16 symbols, random, 437 rows of 2,560, windows of 256 every 64",
        contenders=[
            *ours(
                "entropy_windows",
                lambda backend: ops.entropy_windows(x, alphabet=16, offsets=offsets, backend=backend),
                equal_to(reference),
                x.size,
            ),
            Contender(
                "plain numba, a call a row",
                lambda: np.concatenate([rivals.entropy_numba(row, 256, 64, 16) for row in rows]),
                close_to(reference, ROUNDING),
                x.size,
            ),
        ],
    )
