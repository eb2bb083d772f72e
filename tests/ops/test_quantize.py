from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from model_forensics import ops
from model_forensics.errors import UsageError
from model_forensics.ops import _tables
from tests.ops.cases import SHAPES, SITES, core_with, instruction_sets, log_grid, values

Floats = npt.NDArray[np.float32]
fixture_is_a_name = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
DENORMAL = np.float32(1e-45)
HUGE = np.finfo(np.float32).max


def grid(channels: int, low: float, step: float, levels: int, scale: str = "uniform") -> ops.Grid:
    return ops.Grid(scale, levels, np.full(channels, low, np.float32), np.full(channels, step, np.float32))  # type: ignore[arg-type]


def test_a_grid_does_not_change_with_the_arrays_that_it_was_made_of() -> None:
    low = np.zeros(3, np.float32)
    how = ops.Grid("uniform", 4, low, np.ones(3, np.float32))
    low[:] = -2
    assert how.low is not None
    assert not how.low.any()
    assert not how.low.flags.writeable


def everywhere(x: Floats, how: ops.Grid) -> None:
    """Every instruction set of the core gives the reference's symbols."""
    expected = ops.quantize(x, how, backend="numpy")
    for isa in instruction_sets():
        with core_with(isa, 1):
            np.testing.assert_array_equal(ops.quantize(x, how, backend="cpp"), expected, err_msg=isa)


@fixture_is_a_name
@given(
    bits=hnp.arrays(
        np.uint32, hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=40), elements=st.integers(0, 2**32 - 1)
    ),
    low=st.floats(-150, 150, width=32),
    step=st.floats(2.0**-20, 64, width=32),
    levels=st.integers(1, 255),
    scale=st.sampled_from(["uniform", "log"]),
)
def test_every_bit_pattern_gets_the_reference_symbol(
    backend: str, bits: npt.NDArray[np.uint32], low: float, step: float, levels: int, scale: str
) -> None:
    x = bits.view(np.float32)
    how = grid(x.shape[1], low, step, levels, scale)
    got = ops.quantize(x, how, backend=backend)
    np.testing.assert_array_equal(got, ops.quantize(x, how, backend="numpy"))
    assert (got[~np.isfinite(x)] == levels).all()
    assert (got[np.isfinite(x)] < levels).all()
    everywhere(x, how)


@pytest.mark.parametrize("scale", ["uniform", "log"])
@pytest.mark.parametrize("step", [1e-7, 1e-5, 3e-4, 0.01, 0.1, 0.25, 1.0, 7.5, 300.0])
@pytest.mark.parametrize("low", [-149.5, -127.0, -126.0, -30.3, -1.0, 0.0, 5.1, 120.0])
def test_borders_and_their_neighbours(backend: str, scale: str, low: float, step: float) -> None:
    levels = 200
    start, width = np.float32(low), np.float32(step)
    borders = float(start) + float(width) * np.arange(-2, levels + 3)
    with np.errstate(over="ignore", under="ignore"):
        near = (np.exp2(borders) if scale == "log" else borders).astype(np.float32)
    steps = [near]
    for direction in (-np.inf, np.inf):
        moved = near
        for _ in range(4):
            moved = np.nextafter(moved, np.float32(direction))
            steps.append(moved)
    x = np.stack(steps)
    how = grid(x.shape[1], low, step, levels, scale)
    np.testing.assert_array_equal(ops.quantize(x, how, backend=backend), ops.quantize(x, how, backend="numpy"))
    everywhere(x, how)


@pytest.mark.parametrize("scale", ["uniform", "log"])
@pytest.mark.parametrize(
    ("low", "step"),
    [(-149.0, 1.0), (-126.0, 1e-3), (0.0, 1e-45), (-3e38, 1e38), (3e38, 1e38), (-1e-40, 1e-42), (-1e30, 1e29)],
)
def test_all_exponents_on_extreme_grids(backend: str, scale: str, low: float, step: float) -> None:
    exponents = np.repeat(np.arange(256, dtype=np.uint32) << 23, 5)
    mantissas = np.tile(np.array([0, 1, 0x3504F3, 0x3504F4, 0x7FFFFF], np.uint32), 256)
    bits = np.concatenate([exponents | mantissas, exponents | mantissas | np.uint32(1 << 31)])
    x = bits.view(np.float32).reshape(1, -1).repeat(5, axis=0)
    how = grid(x.shape[1], low, step, 100, scale)
    np.testing.assert_array_equal(ops.quantize(x, how, backend=backend), ops.quantize(x, how, backend="numpy"))
    everywhere(x, how)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale", ["uniform", "log"])
def test_odd_shapes(backend: str, shape: tuple[int, int], scale: str) -> None:
    how = log_grid(shape[1])
    how = ops.Grid(scale, 32, how.low, how.step)  # type: ignore[arg-type]
    x = values(shape)
    got = ops.quantize(x, how, backend=backend)
    assert got.shape == shape
    np.testing.assert_array_equal(got, ops.quantize(x, how, backend="numpy"))
    everywhere(x, how)


def test_many_sites_are_each_on_their_own(backend: str) -> None:
    channels = sum(c for _, c in SITES)
    x = values((sum(t * c for t, c in SITES),))
    how = log_grid(channels)
    assert how.low is not None
    assert how.step is not None
    got = ops.quantize(x, how, shapes=SITES, backend=backend)
    expected, at, first = [], 0, 0
    for tokens, width in SITES:
        mine = ops.Grid("log", 32, how.low[first : first + width], how.step[first : first + width])
        expected.append(ops.quantize(x[at : at + tokens * width].reshape(tokens, width), mine, backend="numpy").ravel())
        at, first = at + tokens * width, first + width
    np.testing.assert_array_equal(got, np.concatenate(expected))
    for isa in instruction_sets():
        for threads in (1, 2, 3):
            with core_with(isa, threads):
                np.testing.assert_array_equal(ops.quantize(x, how, shapes=np.array(SITES)), got)


def test_the_reference_is_the_definition() -> None:
    x = values((200, 3))
    how = log_grid(3)
    assert how.low is not None
    assert how.step is not None
    got = ops.quantize(x, how, backend="numpy")
    for (token, channel), value in np.ndenumerate(x):
        if not np.isfinite(value):
            expected = 32
        elif value == 0:
            expected = 0
        else:
            position = (math.log2(abs(float(value))) - float(how.low[channel])) / float(how.step[channel])
            expected = min(max(math.floor(position), 0), 31)
        assert got[token, channel] == expected


def test_uniform_values(backend: str) -> None:
    x = np.array([[-1.0, 0.0, 0.49, 0.5, 1.99, 2.0, 100.0, HUGE, -HUGE, -0.0]], np.float32)
    got = ops.quantize(x, grid(10, 0.0, 0.5, 4), backend=backend)
    assert got.dtype == np.uint8
    assert got.tolist() == [[0, 0, 0, 1, 3, 3, 3, 3, 0, 0]]


def test_log_values_at_powers_of_two_zero_and_the_ends(backend: str) -> None:
    x = np.array([[0.0, -0.0, 1.0, -1.0, 2.0, np.nextafter(np.float32(2), np.float32(0)), DENORMAL, HUGE]], np.float32)
    got = ops.quantize(x, grid(8, -149.0, 1.0, 255, "log"), backend=backend)
    assert got[0, :6].tolist() == [0, 0, 149, 149, 150, 149]
    coarse = ops.quantize(x, grid(8, -150.0, 1.2, 255, "log"), backend=backend)
    assert coarse[0, 6] == 0
    assert coarse[0, 7] == math.floor((127.99 + 150) / 1.2)


def test_nonfinite_values_get_the_extra_symbol(backend: str) -> None:
    payloads = np.array([[0x7FC00000, 0xFFC00001, 0x7F800001, 0x7F800000, 0xFF800000]], np.uint32).view(np.float32)
    for scale in ("uniform", "log"):
        assert (ops.quantize(payloads.repeat(4, axis=0), grid(5, 0, 1, 255, scale), backend=backend) == 255).all()


@given(hnp.arrays(np.uint32, 200, elements=st.integers(0, 2**32 - 1)))
@fixture_is_a_name
def test_sign_and_exponent_are_the_bits(backend: str, bits: npt.NDArray[np.uint32]) -> None:
    x = bits.view(np.float32).reshape(20, 10)
    sign = ops.quantize(x, ops.Grid("sign"), backend=backend)
    exponent = ops.quantize(x, ops.Grid("exponent"), backend=backend)
    np.testing.assert_array_equal(sign, np.signbit(x))
    np.testing.assert_array_equal(exponent, (bits.reshape(20, 10) >> 23) & 255)
    assert ops.Grid("sign").alphabet == 2
    assert ops.Grid("exponent").alphabet == 256


def test_views_unaligned_and_read_only_arrays(backend: str) -> None:
    base = np.random.default_rng(0).standard_normal((40, 12)).astype(np.float32)
    how = grid(40, -2, 0.25, 16)
    expected = ops.quantize(base.T[::3].copy(), how, backend="numpy")
    base.setflags(write=False)
    np.testing.assert_array_equal(ops.quantize(base.T[::3], how, backend=backend), expected)
    raw = np.zeros(4 * 40 * 4 + 1, np.uint8)
    unaligned = raw[1:].view(np.float32).reshape(4, 40)
    unaligned[...] = base.T[::3]
    np.testing.assert_array_equal(ops.quantize(unaligned, how, backend=backend), expected)


@given(hnp.arrays(np.float64, 30, elements=st.floats(2.0**-1022, 2.0**1023)))
def test_the_shared_logarithm_is_a_logarithm(numbers: npt.NDArray[np.float64]) -> None:
    np.testing.assert_allclose(_tables.log2(numbers), np.log2(numbers), rtol=4e-16, atol=4e-16)
    powers = np.ldexp(1.0, np.arange(-1000, 1000))
    np.testing.assert_array_equal(_tables.log2(powers), np.arange(-1000, 1000))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"low": np.zeros(2, np.float32)}, r"\[2\]"),
        ({"low": np.full(3, np.nan, np.float32)}, "low holds NaN"),
        ({"low": None}, "low is a NoneType"),
        ({"step": np.zeros(3, np.float32)}, "above 0"),
        ({"step": np.full(3, np.nan, np.float32)}, "above 0"),
        ({"step": np.full(3, np.inf, np.float32)}, "above 0"),
        ({"step": np.ones(3)}, "float32"),
        ({"levels": 0}, "from 1 to 255"),
        ({"levels": 256}, "from 1 to 255"),
        ({"levels": None}, "from 1 to 255"),
        ({"scale": "cubic"}, "'uniform', 'log', 'sign', 'exponent'"),
        ({"scale": "sign"}, "takes neither"),
    ],
)
def test_wrong_grids_say_what_is_accepted(change: dict[str, object], says: str) -> None:
    right = {"scale": "log", "levels": 8, "low": np.zeros(3, np.float32), "step": np.ones(3, np.float32)}
    with pytest.raises(UsageError, match=says):
        ops.Grid(**{**right, **change})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("x", "shapes", "says"),
    [
        (np.zeros((4, 3), np.float64), None, "float32"),
        (np.zeros((4, 3), np.float16), None, "float32"),
        (np.zeros((4, 3), ">f4"), None, "float32"),
        (np.zeros(4, np.float32), None, "shape"),
        ([[1.0]], None, "list"),
        (np.zeros((4, 2), np.float32), None, r"the grid is for 3 channels, x has 2"),
        (np.zeros(12, np.float32), [(4, -3)], "holds -3"),
        (np.zeros(12, np.float32), [(4, 4)], "hold 16 values, x has 12"),
        (np.zeros(12, np.float32), [(4, 3, 1)], "shape"),
        (np.zeros(12, np.float32), [(4, 3), (1,)], "pairs"),
        (np.zeros(12, np.float32), [(4.0, 3.0)], "float64"),
        (np.zeros(12, np.float32), [(2**62, 3)], "values"),
        (np.zeros((4, 3), np.float32), [(4, 3)], "shape"),
    ],
)
def test_wrong_arrays_say_what_is_accepted(backend: str, x: object, shapes: object, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        ops.quantize(x, grid(3, 0, 1, 8), shapes=shapes, backend=backend)  # type: ignore[arg-type]


def test_a_grid_must_be_a_grid(backend: str) -> None:
    with pytest.raises(UsageError, match="an ops"):
        ops.quantize(np.zeros((2, 2), np.float32), None, backend=backend)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="an ops"):
        ops.quantize(np.zeros((2, 2), np.float32), "log", backend=backend)  # type: ignore[arg-type]
