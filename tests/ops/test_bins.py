"""Sums over bins: every backend gives the bits of the reference, and the reference is the definition."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from model_forensics import ops
from model_forensics.errors import UsageError
from tests.ops.cases import core_with, instruction_sets

BINS = 90
ENTRIES = [0, 1, 255, 0, 700, 3]  # of each site


def entries(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Terms, bins (runs of one bin, and jumps; sites share them), starts."""
    random = np.random.default_rng(seed)
    x = random.standard_normal(sum(ENTRIES)) * np.exp2(random.uniform(-30, 30, sum(ENTRIES)))
    bins = np.where(random.random(x.size) < 0.5, random.integers(0, BINS, x.size), np.arange(x.size) // 20)
    return x, bins, np.cumsum([0, *ENTRIES])


def distance(seed: int = 0) -> ops.Distance:
    random = np.random.default_rng(seed)
    return ops.Distance(random.standard_normal(BINS), random.uniform(0.1, 3, len(ENTRIES)), 2.5)


def equal(got: ops.BinSums, expected: ops.BinSums) -> None:
    np.testing.assert_array_equal(got.total, expected.total)
    np.testing.assert_array_equal(got.squares, expected.squares)


@pytest.mark.parametrize("how", [None, distance()], ids=["entries", "distances"])
def test_every_backend_gives_the_bits_of_the_reference(backend: str, how: ops.Distance | None) -> None:
    for seed in range(3):
        x, bins, starts = entries(seed)
        expected = ops.bin_sums(x, bins, starts, count=BINS, distance=how, backend="numpy")
        equal(ops.bin_sums(x, bins, starts, count=BINS, distance=how, backend=backend), expected)
        for isa in instruction_sets():
            for threads in (1, 3):
                with core_with(isa, threads):
                    equal(ops.bin_sums(x, bins, starts, count=BINS, distance=how, backend="cpp"), expected)


def test_the_reference_is_the_definition() -> None:
    x, bins, starts = entries(7)
    how = distance(1)
    away = np.concatenate(
        [
            np.minimum(np.abs(x[i:j] - how.centre[bins[i:j]]) / how.spread[site], 2.5)
            for site, (i, j) in enumerate(pairwise(starts))
        ]
    )
    for terms, given in ((x, None), (away, how)):
        got = ops.bin_sums(x, bins, starts, count=BINS, distance=given, backend="numpy")
        for number in range(BINS):
            mine = terms[bins == number]
            assert got.total[number] == pytest.approx(mine.sum(), abs=1e-12 * np.abs(mine).sum())
        for site, (i, j) in enumerate(pairwise(starts)):
            assert got.squares[site] == pytest.approx((terms[i:j] ** 2).sum())


def test_what_is_not_a_number_shows_in_its_bin_and_site_alone(backend: str) -> None:
    x, bins, starts = entries()
    x[300] = np.nan
    for how in (None, distance()):
        got = ops.bin_sums(x, bins, starts, count=BINS, distance=how, backend=backend)
        assert np.flatnonzero(np.isnan(got.total)).tolist() == [bins[300]]
        assert np.flatnonzero(np.isnan(got.squares)).tolist() == [4]


def test_no_entry_no_bin_and_no_site_sum_to_nothing(backend: str) -> None:
    nothing = np.zeros(0), np.zeros(0, np.int64)
    got = ops.bin_sums(*nothing, np.zeros(4, np.int64), count=5, backend=backend)
    assert (got.total.tolist(), got.squares.tolist()) == ([0.0] * 5, [0.0] * 3)
    empty = ops.bin_sums(*nothing, np.zeros(1, np.int64), count=0, backend=backend)
    assert (empty.total.size, empty.squares.size) == (0, 0)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"x": np.zeros(sum(ENTRIES), np.float32)}, "float32"),
        ({"bins": entries()[1] - 1}, "bins holds -1"),
        ({"bins": entries()[1] + 1}, "bins holds 0|bins holds 1"),
        ({"bins": entries()[1][1:]}, "shape"),
        ({"bins": entries()[1].astype(np.int32)}, "int32"),
        ({"starts": entries()[2][1:] + 1}, "offsets"),
        ({"starts": entries()[2][::-1].copy()}, "offsets"),
        ({"count": -1}, "count is -1"),
        ({"count": 1 << 40}, "count is"),
        ({"distance": distance()._replace(centre=np.zeros(BINS - 1))}, "shape"),
        ({"distance": distance()._replace(spread=np.ones(3))}, "shape"),
        ({"distance": distance()._replace(spread=np.zeros(len(ENTRIES)))}, "above 0"),
        ({"distance": distance()._replace(spread=np.full(len(ENTRIES), np.nan))}, "above 0"),
        ({"distance": distance()._replace(limit=float("nan"))}, "limit"),
        ({"distance": distance()._replace(limit=-1.0)}, "limit"),
    ],
)
def test_arguments_that_cannot_be_are_refused(backend: str, change: dict[str, Any], says: str) -> None:
    x, bins, starts = entries()
    arguments: dict[str, Any] = {"x": x, "bins": bins, "starts": starts, "count": BINS} | change
    with pytest.raises(UsageError, match=says):
        ops.bin_sums(**arguments, backend=backend)
