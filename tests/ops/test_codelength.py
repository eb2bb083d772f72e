from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from model_forensics import ops
from model_forensics.errors import UsageError
from tests.ops.cases import SHAPES, SITES, core_with, instruction_sets, log_grid, random_cost, values

Symbols = npt.NDArray[np.uint8]
fixture_is_a_name = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
ALL: Any = ("channel", "token", "site", "block")


def random_symbols(shape: tuple[int, ...], alphabet: int) -> Symbols:
    return np.random.default_rng(shape[0]).integers(0, alphabet, shape, dtype=np.uint8)


def rounded(cost: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    return np.asarray(np.rint(cost.astype(np.float64) * 65536) / 65536)


def blocks(paid: npt.NDArray[np.float64], block: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Sums over blocks, one by one."""
    rows, columns = (-(-size // side) for size, side in zip(paid.shape, block, strict=True))
    out = np.zeros((rows, columns))
    for (token, channel), bits in np.ndenumerate(paid):
        out[token // block[0], channel // block[1]] += bits
    return out


def everywhere(expected: Any, *arguments: Any, **options: Any) -> None:
    """Every instruction set and number of threads of the core gives these bits."""
    for isa in instruction_sets():
        for threads in (1, 2, 3):
            with core_with(isa, threads):
                for got, want in zip(ops.codelength(*arguments, **options, backend="cpp"), expected, strict=True):
                    np.testing.assert_array_equal(got, want, err_msg=f"{isa}, {threads} threads")


@fixture_is_a_name
@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=30)))
def test_histogram_counts(backend: str, symbols: Symbols) -> None:
    got = ops.histogram(symbols, backend=backend)
    assert got.dtype == np.int64
    assert got.shape == (symbols.shape[1], 256)
    for channel in range(symbols.shape[1]):
        np.testing.assert_array_equal(got[channel], np.bincount(symbols[:, channel], minlength=256))


@pytest.mark.parametrize("shape", SHAPES)
def test_histogram_of_values_is_that_of_their_symbols(backend: str, shape: tuple[int, int]) -> None:
    x = values(shape)
    for grid in (log_grid(shape[1]), ops.Grid("sign"), ops.Grid("exponent")):
        expected = ops.histogram(ops.quantize(x, grid, backend="numpy"), alphabet=grid.alphabet, backend="numpy")
        np.testing.assert_array_equal(ops.histogram(x, grid=grid, backend=backend), expected)
        for isa in instruction_sets():
            for threads in (1, 2, 3):
                with core_with(isa, threads):
                    np.testing.assert_array_equal(ops.histogram(x, grid=grid, backend="cpp"), expected)


def test_histogram_of_many_sites(backend: str) -> None:
    symbols = random_symbols((sum(t * c for t, c in SITES),), 7)
    got = ops.histogram(symbols, alphabet=7, shapes=SITES, backend=backend)
    at = first = 0
    for tokens, channels in SITES:
        mine = symbols[at : at + tokens * channels].reshape(tokens, channels)
        np.testing.assert_array_equal(got[first : first + channels], ops.histogram(mine, alphabet=7, backend="numpy"))
        at, first = at + tokens * channels, first + channels


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("alphabet", [1, 2, 17, 32, 33, 64, 65, 256])
def test_codelength_sums_the_costs(backend: str, shape: tuple[int, int], alphabet: int) -> None:
    symbols, cost = random_symbols(shape, alphabet), random_cost(shape[1], alphabet)
    paid = rounded(cost)[np.arange(shape[1]), symbols]
    expected = paid.sum(0), paid.sum(1), paid.sum(), blocks(paid, (8, 5))
    got = ops.codelength(symbols, cost, reduce=ALL, block=(8, 5), backend=backend)
    for mine, want in zip(got, expected, strict=True):
        assert mine.dtype == np.float64
        assert mine.shape == np.shape(want)
        np.testing.assert_array_equal(mine, want)  # multiples of 2^-16: float64 sums them exactly
    everywhere(expected, symbols, cost, reduce=ALL, block=(8, 5))


@pytest.mark.parametrize("block", [(1, 1), (3, 64), (16, 7), (64, 64), (100, 3), (1000, 5000), (2**48, 2**48)])
def test_blocks_of_any_size(backend: str, block: tuple[int, int]) -> None:
    symbols, cost = random_symbols((131, 70), 33), random_cost(70, 33)
    paid = rounded(cost)[np.arange(70), symbols]
    got = ops.codelength(symbols, cost, reduce="block", block=block, backend=backend)
    np.testing.assert_array_equal(got, blocks(paid, (min(block[0], 131), min(block[1], 70))))
    everywhere((got,), symbols, cost, reduce=("block",), block=block)


@pytest.mark.parametrize("shape", SHAPES)
def test_values_cost_what_their_symbols_do(backend: str, shape: tuple[int, int]) -> None:
    x, options = values(shape), {"reduce": ALL, "block": (16, 3)}
    for grid in (log_grid(shape[1]), log_grid(shape[1], 63), ops.Grid("sign"), ops.Grid("exponent")):
        cost = random_cost(shape[1], grid.alphabet)
        expected = ops.codelength(ops.quantize(x, grid, backend="numpy"), cost, **options, backend="numpy")
        got = ops.codelength(x, cost, grid=grid, **options, backend=backend)
        for mine, want in zip(got, expected, strict=True):
            np.testing.assert_array_equal(mine, want)
        everywhere(expected, x, cost, grid=grid, **options)


def test_many_sites_in_one_call(backend: str) -> None:
    channels = sum(c for _, c in SITES)
    x, grid = values((sum(t * c for t, c in SITES),)), log_grid(channels)
    cost = random_cost(4, 33)
    tables = np.random.default_rng(1).integers(0, 4, channels, dtype=np.int32)
    options: dict[str, Any] = {"grid": grid, "tables": tables, "shapes": SITES, "reduce": ALL, "block": (8, 5)}
    got = ops.codelength(x, cost, **options, backend=backend)
    symbols = ops.quantize(x, grid, shapes=SITES, backend="numpy")
    at = first = 0
    expected: list[list[Any]] = [[], [], [], []]
    for tokens, width in SITES:
        mine = symbols[at : at + tokens * width].reshape(tokens, width)
        paid = rounded(cost)[tables[first : first + width], mine]
        for part, sums in zip(expected, (paid.sum(0), paid.sum(1), paid.sum(), blocks(paid, (8, 5))), strict=True):
            part.append(np.ravel(sums))
        at, first = at + tokens * width, first + width
    for sums, parts in zip(got, expected, strict=True):
        np.testing.assert_array_equal(sums, np.concatenate(parts))
    everywhere(got, x, cost, **options)


def test_enough_work_for_several_threads() -> None:
    shapes = [(3000, 300), (0, 4), (700, 1100)]
    channels = sum(c for _, c in shapes)
    x, grid = values((sum(t * c for t, c in shapes),)), log_grid(channels)
    cost = random_cost(channels, 33)
    options: dict[str, Any] = {"grid": grid, "shapes": shapes, "reduce": ALL, "block": (100, 64)}
    everywhere(ops.codelength(x, cost, **options, backend="numpy"), x, cost, **options)
    symbols, counts = (run(x, grid=grid, shapes=shapes, backend="numpy") for run in (ops.quantize, ops.histogram))
    for isa in instruction_sets():
        for threads in (1, 2, 3):
            with core_with(isa, threads):
                np.testing.assert_array_equal(ops.quantize(x, grid, shapes=shapes, backend="cpp"), symbols)
                np.testing.assert_array_equal(ops.histogram(x, grid=grid, shapes=shapes, backend="cpp"), counts)


def test_no_sites(backend: str) -> None:
    nothing = np.zeros(0, np.uint8)
    for got in ops.codelength(nothing, random_cost(0, 4), shapes=[], reduce=ALL, block=(2, 2), backend=backend):
        assert got.shape == (0,)
    assert ops.histogram(nothing, alphabet=4, shapes=[], backend=backend).shape == (0, 4)
    got = ops.codelength_adaptive(
        nothing, alphabet=4, shapes=[], reduce=("channel", "site", "block"), block=(2, 2), backend=backend
    )
    assert [bits.shape for bits in got] == [(0,)] * 3


@pytest.mark.parametrize("largest", [511.9, 512.0, 32767.9])
def test_large_and_negative_costs_are_exact(backend: str, largest: float) -> None:
    cost = np.array([[largest, -largest, 0.25]], np.float32)
    for first in (0, 1):
        symbols = np.full((200, 64), first, np.uint8)
        tables = np.zeros(64, np.int32)
        expected = 200 * 64 * float(rounded(cost)[0, first])
        assert ops.codelength(symbols, cost, tables=tables, reduce="site", backend=backend) == expected
        everywhere((np.float64(expected),), symbols, cost, tables=tables, reduce=("site",))
        everywhere((np.full(200, expected / 200),), symbols, cost, tables=tables, reduce=("token",))


def test_a_prepared_table_costs_the_same(backend: str) -> None:
    symbols, cost = random_symbols((50, 9), 16), random_cost(9, 16)
    prepared = ops.CostTable.of(cost)
    assert prepared.units.dtype == np.int32
    np.testing.assert_array_equal(
        ops.codelength(symbols, prepared, backend=backend), ops.codelength(symbols, cost, backend=backend)
    )


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


def test_adaptive_codelength_of_more_tokens_than_the_table_holds(backend: str) -> None:
    symbols = np.zeros((70_000, 1), np.uint8)
    symbols[::1000] = 1
    got = ops.codelength_adaptive(symbols, alphabet=2, backend=backend)
    n, ones = symbols.size, int(symbols.sum())
    expected = (
        math.lgamma(n + 1) - math.lgamma(ones + 0.5) - math.lgamma(n - ones + 0.5) + 2 * math.lgamma(0.5)
    ) / math.log(2)
    np.testing.assert_allclose(got, [expected], rtol=1e-10)


@pytest.mark.parametrize("block", [(8, 5), (1, 1), (200, 200)])
def test_adaptive_models_start_anew_in_each_block(backend: str, block: tuple[int, int]) -> None:
    x, grid = values((53, 13)), log_grid(13)
    options: dict[str, Any] = {"grid": grid, "reduce": ("channel", "site", "block"), "block": block}
    channel, site, found = ops.codelength_adaptive(x, **options, backend=backend)
    assert site == pytest.approx(channel.sum())
    symbols = ops.quantize(x, grid)
    for (row, column), bits in np.ndenumerate(found):
        part = symbols[row * block[0] : (row + 1) * block[0], column * block[1] : (column + 1) * block[1]]
        expected = ops.codelength_adaptive(part, alphabet=33, reduce="site", backend="numpy")
        np.testing.assert_allclose(bits, expected, rtol=1e-12)
    reference = ops.codelength_adaptive(x, **options, backend="numpy")
    for mine, want in zip((channel, site, found), reference, strict=True):
        np.testing.assert_array_equal(mine, want)


def test_adaptive_blocks_of_many_sites(backend: str) -> None:
    symbols = random_symbols((sum(t * c for t, c in SITES),), 7)
    channel, site, block = ops.codelength_adaptive(
        symbols, alphabet=7, shapes=SITES, reduce=("channel", "site", "block"), block=(8, 5), backend=backend
    )
    at = first = cell = 0
    for number, (tokens, width) in enumerate(SITES):
        mine = symbols[at : at + tokens * width].reshape(tokens, width)
        want = ops.codelength_adaptive(mine, alphabet=7, reduce=("channel", "site", "block"), block=(8, 5))
        np.testing.assert_array_equal(channel[first : first + width], want[0])
        assert site[number] == want[1]
        np.testing.assert_array_equal(block[cell : cell + want[2].size], want[2].ravel())
        at, first, cell = at + tokens * width, first + width, cell + want[2].size
    assert cell == block.size


def test_adaptive_codelength_without_tokens_or_channels(backend: str) -> None:
    assert ops.codelength_adaptive(np.zeros((0, 3), np.uint8), alphabet=9, backend=backend).tolist() == [0.0] * 3
    assert ops.codelength_adaptive(np.zeros((3, 0), np.uint8), alphabet=9, backend=backend).shape == (0,)
    assert ops.codelength_adaptive(np.zeros((3, 0), np.uint8), alphabet=9, reduce="site", backend=backend) == 0.0


def test_views_and_read_only_arrays(backend: str) -> None:
    symbols, cost = random_symbols((64, 10), 16), random_cost(5, 16)
    expected = ops.codelength(symbols[::-3, ::2].copy(), cost, backend="numpy")
    symbols.setflags(write=False)
    cost.setflags(write=False)
    np.testing.assert_array_equal(ops.codelength(symbols[::-3, ::2], cost, backend=backend), expected)
    np.testing.assert_array_equal(
        ops.histogram(symbols.T, alphabet=16, backend=backend), ops.histogram(symbols.T.copy(), alphabet=16)
    )
    unaligned = np.zeros(4 * 300 + 1, np.uint8)[1:].view(np.float32).reshape(30, 10)
    grid, cost = log_grid(10), random_cost(10, 33)
    np.testing.assert_array_equal(
        ops.codelength(unaligned, cost, grid=grid, backend=backend), ops.codelength(unaligned.copy(), cost, grid=grid)
    )


@pytest.mark.parametrize("dtype", [np.int64, np.float64, np.int8])
def test_other_dtypes_are_refused_not_cast(backend: str, dtype: type) -> None:
    wrong = np.zeros((3, 2), dtype)
    with pytest.raises(UsageError, match="uint8"):
        ops.histogram(wrong, backend=backend)
    with pytest.raises(UsageError, match="uint8"):
        ops.codelength(wrong, np.zeros((2, 4), np.float32), backend=backend)
    with pytest.raises(UsageError, match="uint8"):
        ops.codelength_adaptive(wrong, alphabet=4, backend=backend)
    with pytest.raises(UsageError, match="float32"):
        ops.codelength(wrong, np.zeros((2, 2), np.float32), grid=ops.Grid("sign"), backend=backend)


COST = np.zeros((2, 4), np.float32)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"cost": np.zeros((2, 4), np.float64)}, "float32"),
        ({"cost": np.zeros((3, 4), np.float32)}, r"cost has 3 tables, x has 2 channels"),
        ({"cost": np.zeros((2, 257), np.float32)}, "from 1 to 256"),
        ({"cost": np.zeros((2, 3), np.float32)}, "symbol 3 is outside the alphabet of 3"),
        ({"cost": np.full((2, 4), np.nan, np.float32)}, "below 2\\^15"),
        ({"cost": np.full((2, 4), np.inf, np.float32)}, "below 2\\^15"),
        ({"cost": np.full((2, 4), -32768, np.float32)}, "below 2\\^15"),
        ({"reduce": "layer"}, "'channel', 'token', 'site', 'block'"),
        ({"reduce": ()}, "reduce is empty"),
        ({"reduce": "block"}, r"block=\(tokens, channels\)"),
        ({"reduce": "block", "block": (0, 4)}, "tokens of block is 0"),
        ({"reduce": "block", "block": (4, -1)}, "channels of block is -1"),
        ({"block": (4, 4)}, "without reduce='block'"),
        ({"tables": np.array([0, 2], np.int32)}, "from 0 to 1"),
        ({"tables": np.array([0, -1], np.int32)}, "from 0 to 1"),
        ({"tables": np.array([0, 1])}, "int32"),
        ({"tables": np.array([0], np.int32)}, r"\[2\]"),
        ({"grid": "log"}, "ops.Grid"),
    ],
)
def test_wrong_arguments_say_what_is_accepted(backend: str, change: dict[str, Any], says: str) -> None:
    arguments = {"cost": COST, "reduce": "channel", **change}
    with pytest.raises(UsageError, match=says):
        ops.codelength(np.full((5, 2), 3, np.uint8), arguments.pop("cost"), **arguments, backend=backend)


def test_grids_and_data_must_fit(backend: str) -> None:
    x = np.zeros((5, 2), np.float32)
    with pytest.raises(UsageError, match="there is no grid"):
        ops.codelength(x, COST, backend=backend)
    with pytest.raises(UsageError, match="cost has 4 columns, the alphabet of the grid is 33"):
        ops.codelength(x, COST, grid=log_grid(2), backend=backend)
    with pytest.raises(UsageError, match="that of the grid is 33"):
        ops.histogram(x, grid=log_grid(2), alphabet=32, backend=backend)
    with pytest.raises(UsageError, match="symbol 7 is outside the alphabet of 5"):
        ops.histogram(np.full((5, 2), 7, np.uint8), alphabet=5, backend=backend)


@pytest.mark.parametrize("alphabet", [0, 1, 257, -3, 3.0])
def test_wrong_alphabets_say_what_is_accepted(backend: str, alphabet: int) -> None:
    with pytest.raises(UsageError, match="from 2 to 256"):
        ops.histogram(np.zeros((5, 2), np.uint8), alphabet=alphabet, backend=backend)
    with pytest.raises(UsageError, match="from 2 to 256"):
        ops.codelength_adaptive(np.zeros((5, 2), np.uint8), alphabet=alphabet, backend=backend)
