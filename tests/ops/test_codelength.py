from __future__ import annotations

import math
from fractions import Fraction
from types import ModuleType

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from model_forensics import ops
from model_forensics.errors import UsageError

Symbols = npt.NDArray[np.uint8]
fixture_is_a_name = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
SHAPES = [(0, 0), (0, 5), (5, 0), (1, 1), (63, 7), (127, 13)]


def random_symbols(shape: tuple[int, int], alphabet: int) -> Symbols:
    return np.random.default_rng(shape[0]).integers(0, alphabet, shape, dtype=np.uint8)


def random_cost(channels: int, alphabet: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(channels).exponential(4.0, (channels, alphabet)).astype(np.float32)


@fixture_is_a_name
@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=30)))
def test_histogram_counts(backend: str, symbols: Symbols) -> None:
    got = ops.histogram(symbols, backend=backend)
    assert got.dtype == np.int64
    assert got.shape == (symbols.shape[1], 256)
    for channel in range(symbols.shape[1]):
        np.testing.assert_array_equal(got[channel], np.bincount(symbols[:, channel], minlength=256))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("alphabet", [2, 17, 256])
def test_codelength_sums_the_costs(backend: str, shape: tuple[int, int], alphabet: int) -> None:
    symbols, cost = random_symbols(shape, alphabet), random_cost(shape[1], alphabet)
    paid = cost.astype(np.float64)[np.arange(shape[1]), symbols]
    for reduce, expected in (("channel", paid.sum(0)), ("token", paid.sum(1)), ("site", paid.sum())):
        got = ops.codelength(symbols, cost, reduce=reduce, backend=backend)  # type: ignore[arg-type]
        assert got.dtype == np.float64
        assert got.shape == np.shape(expected)
        np.testing.assert_allclose(got, expected, rtol=1e-12)
        reference = ops.codelength(symbols, cost, reduce=reduce, backend="numpy")  # type: ignore[arg-type]
        np.testing.assert_array_equal(got, reference)


def test_an_impossible_symbol_costs_infinity_only_where_it_occurs(backend: str) -> None:
    cost = np.array([[1, np.inf], [2, 3]], np.float32)
    symbols = np.array([[0, 1], [1, 0]], np.uint8)
    assert ops.codelength(symbols, cost, backend=backend).tolist() == [np.inf, 5.0]
    assert ops.codelength(symbols, cost, reduce="token", backend=backend).tolist() == [4.0, np.inf]


@fixture_is_a_name
@given(st.lists(st.integers(0, 4), max_size=25))
def test_adaptive_codelength_is_the_product_of_its_predictions(backend: str, sequence: list[int]) -> None:
    probability = Fraction(1)
    counts = [0] * 5
    for n, symbol in enumerate(sequence):
        probability *= Fraction(2 * counts[symbol] + 1, 2 * n + 5)
        counts[symbol] += 1
    expected = math.log2(probability.denominator) - math.log2(probability.numerator)
    column = np.array(sequence, dtype=np.uint8).reshape(-1, 1)
    got = ops.codelength_adaptive(column, alphabet=5, backend=backend)
    np.testing.assert_allclose(got, [expected], rtol=1e-12, atol=1e-11)


def test_adaptive_codelength_without_tokens_or_channels(backend: str) -> None:
    assert ops.codelength_adaptive(np.zeros((0, 3), np.uint8), alphabet=9, backend=backend).tolist() == [0.0] * 3
    assert ops.codelength_adaptive(np.zeros((3, 0), np.uint8), alphabet=9, backend=backend).shape == (0,)


def test_views_and_read_only_arrays(backend: str) -> None:
    symbols, cost = random_symbols((64, 10), 16), random_cost(5, 16)
    expected = ops.codelength(symbols[::-3, ::2].copy(), cost, backend="numpy")
    symbols.setflags(write=False)
    cost.setflags(write=False)
    np.testing.assert_array_equal(ops.codelength(symbols[::-3, ::2], cost, backend=backend), expected)
    np.testing.assert_array_equal(
        ops.histogram(symbols.T, alphabet=16, backend=backend), ops.histogram(symbols.T.copy(), alphabet=16)
    )


def test_every_output_is_written(implementation: ModuleType) -> None:
    symbols, cost = random_symbols((63, 7), 16), random_cost(7, 16)
    counts = np.full((7, 16), -(2**60))
    implementation.histogram(symbols, 16, counts)
    assert counts.sum() == symbols.size
    assert (counts >= 0).all()
    for operation, size in (("codelength_per_channel", 7), ("codelength_per_token", 63)):
        out = np.full(size, np.nan)
        getattr(implementation, operation)(symbols, cost, out)
        assert np.isfinite(out).all()


@pytest.mark.parametrize("dtype", [np.int64, np.float32, np.int8])
def test_other_dtypes_are_refused_not_cast(backend: str, dtype: type) -> None:
    wrong = np.zeros((3, 2), dtype)
    with pytest.raises(UsageError, match="uint8"):
        ops.histogram(wrong, backend=backend)
    with pytest.raises(UsageError, match="uint8"):
        ops.codelength(wrong, np.zeros((2, 4), np.float32), backend=backend)
    with pytest.raises(UsageError, match="uint8"):
        ops.codelength_adaptive(wrong, alphabet=4, backend=backend)


@pytest.mark.parametrize(
    ("cost", "reduce", "says"),
    [
        (np.zeros((2, 4), np.float64), "channel", "float32"),
        (np.zeros((3, 4), np.float32), "channel", r"\[2, \?\]"),
        (np.zeros((2, 257), np.float32), "channel", "from 1 to 256"),
        (np.zeros((2, 3), np.float32), "channel", "symbol 3 is outside the alphabet of 3"),
        (np.full((2, 4), np.nan, np.float32), "channel", "NaN"),
        (np.full((2, 4), -np.inf, np.float32), "channel", "-Inf"),
        (np.zeros((2, 4), np.float32), "layer", "'channel', 'token', 'site'"),
    ],
)
def test_wrong_costs_say_what_is_accepted(backend: str, cost: npt.NDArray[np.floating], reduce: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        ops.codelength(np.full((5, 2), 3, np.uint8), cost, reduce=reduce, backend=backend)  # type: ignore[arg-type]


@pytest.mark.parametrize("alphabet", [0, 1, 257, -3, 3.0])
def test_wrong_alphabets_say_what_is_accepted(backend: str, alphabet: int) -> None:
    with pytest.raises(UsageError, match="from 2 to 256"):
        ops.histogram(np.zeros((5, 2), np.uint8), alphabet=alphabet, backend=backend)
    with pytest.raises(UsageError, match="from 2 to 256"):
        ops.codelength_adaptive(np.zeros((5, 2), np.uint8), alphabet=alphabet, backend=backend)
