from __future__ import annotations

import math
from types import ModuleType

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from model_forensics import ops
from model_forensics.errors import UsageError
from model_forensics.ops import _tables

Floats = npt.NDArray[np.float32]
fixture_is_a_name = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
DENORMAL = np.float32(1e-45)
HUGE = np.finfo(np.float32).max


def grid(channels: int, low: float, step: float) -> dict[str, Floats]:
    return {"low": np.full(channels, low, np.float32), "step": np.full(channels, step, np.float32)}


@fixture_is_a_name
@given(
    values=hnp.arrays(
        np.uint32, hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=20), elements=st.integers(0, 2**32 - 1)
    ),
    low=st.floats(-150, 150, width=32),
    step=st.floats(2.0**-20, 64, width=32),
    levels=st.integers(1, 255),
    scale=st.sampled_from(["uniform", "log"]),
)
def test_every_bit_pattern_gets_the_reference_symbol(
    backend: str, values: npt.NDArray[np.uint32], low: float, step: float, levels: int, scale: str
) -> None:
    x = values.view(np.float32)
    arguments = {**grid(x.shape[1], low, step), "levels": levels, "scale": scale}
    got = ops.quantize(x, backend=backend, **arguments)  # type: ignore[arg-type]
    np.testing.assert_array_equal(got, ops.quantize(x, backend="numpy", **arguments))  # type: ignore[arg-type]
    assert (got[~np.isfinite(x)] == levels).all()
    assert (got[np.isfinite(x)] < levels).all()


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (1, 1), (63, 7), (127, 13), (64, 64)])
@pytest.mark.parametrize("scale", ["uniform", "log"])
def test_odd_shapes_agree_next_to_the_borders_of_the_grid(backend: str, shape: tuple[int, int], scale: str) -> None:
    random = np.random.default_rng(shape[0])
    low = random.uniform(-30, -10, shape[1]).astype(np.float32)
    step = random.uniform(0.1, 2, shape[1]).astype(np.float32)
    border = low + step * random.integers(0, 40, shape)
    x = (np.exp2(border) if scale == "log" else border).astype(np.float32)
    x = np.nextafter(x, np.float32(np.inf), where=random.random(shape) < 0.5, out=x)
    arguments = {"low": low, "step": step, "levels": 40, "scale": scale}
    got = ops.quantize(x, backend=backend, **arguments)  # type: ignore[arg-type]
    np.testing.assert_array_equal(got, ops.quantize(x, backend="numpy", **arguments))  # type: ignore[arg-type]


def test_uniform_values(backend: str) -> None:
    x = np.array([[-1.0, 0.0, 0.49, 0.5, 1.99, 2.0, 100.0, HUGE, -HUGE, -0.0]], np.float32)
    got = ops.quantize(x, **grid(10, 0.0, 0.5), levels=4, backend=backend)
    assert got.dtype == np.uint8
    assert got.tolist() == [[0, 0, 0, 1, 3, 3, 3, 3, 0, 0]]


def test_log_values_at_powers_of_two_zero_and_the_ends(backend: str) -> None:
    x = np.array([[0.0, -0.0, 1.0, -1.0, 2.0, np.nextafter(np.float32(2), np.float32(0)), DENORMAL, HUGE]], np.float32)
    got = ops.quantize(x, **grid(8, -149.0, 1.0), levels=255, scale="log", backend=backend)
    assert got[0, :6].tolist() == [0, 0, 149, 149, 150, 149]
    fine = ops.quantize(x, **grid(8, -150.0, 1.2), levels=255, scale="log", backend=backend)
    assert fine[0, 6] == 0
    assert fine[0, 7] == math.floor((127.99 + 150) / 1.2)


def test_nonfinite_values_get_the_extra_symbol(backend: str) -> None:
    payloads = np.array([[0x7FC00000, 0xFFC00001, 0x7F800001, 0x7F800000, 0xFF800000]], np.uint32).view(np.float32)
    for scale in ("uniform", "log"):
        got = ops.quantize(payloads, **grid(5, 0, 1), levels=255, scale=scale, backend=backend)  # type: ignore[arg-type]
        assert (got == 255).all()


def test_views_unaligned_and_read_only_arrays(backend: str) -> None:
    base = np.random.default_rng(0).standard_normal((40, 12)).astype(np.float32)
    expected = ops.quantize(base.T[::3].copy(), **grid(40, -2, 0.25), levels=16, backend="numpy")
    base.setflags(write=False)
    np.testing.assert_array_equal(ops.quantize(base.T[::3], **grid(40, -2, 0.25), levels=16, backend=backend), expected)
    raw = np.zeros(4 * 40 * 4 + 1, np.uint8)
    unaligned = raw[1:].view(np.float32).reshape(4, 40)
    unaligned[...] = base.T[::3]
    np.testing.assert_array_equal(ops.quantize(unaligned, **grid(40, -2, 0.25), levels=16, backend=backend), expected)


@pytest.mark.parametrize("operation", ["quantize_uniform", "quantize_log"])
def test_every_output_is_written(implementation: ModuleType, operation: str) -> None:
    x = np.array([[0.0, np.nan, 3.0, -np.inf, 1e-40]] * 7, np.float32)
    low, step = np.zeros(5, np.float32), np.ones(5, np.float32)
    out = np.full(x.shape, 0xA5, np.uint8)
    getattr(implementation, operation)(x, low, step, 16, out)
    assert (out <= 16).all()


@given(hnp.arrays(np.float64, 30, elements=st.floats(2.0**-1022, 2.0**1023)))
def test_the_shared_logarithm_is_a_logarithm(values: npt.NDArray[np.float64]) -> None:
    exact = np.log2(values)
    np.testing.assert_allclose(_tables.log2(values), exact, rtol=4e-16, atol=4e-16)
    powers = np.ldexp(1.0, np.arange(-1000, 1000))
    np.testing.assert_array_equal(_tables.log2(powers), np.arange(-1000, 1000))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"x": np.zeros((4, 3), np.float64)}, "float32"),
        ({"x": np.zeros((4, 3), np.float16)}, "float32"),
        ({"x": np.zeros((4, 3), ">f4")}, "float32"),
        ({"x": np.zeros(4, np.float32)}, "shape"),
        ({"x": [[1.0]]}, "list"),
        ({"low": np.zeros(2, np.float32)}, r"\[3\]"),
        ({"low": np.full(3, np.nan, np.float32)}, "low holds NaN"),
        ({"step": np.zeros(3, np.float32)}, "above 0"),
        ({"step": np.full(3, np.inf, np.float32)}, "above 0"),
        ({"step": np.ones(3)}, "float32"),
        ({"levels": 0}, "from 1 to 255"),
        ({"levels": 256}, "from 1 to 255"),
        ({"scale": "cubic"}, "'uniform', 'log'"),
    ],
)
def test_wrong_arguments_say_what_is_accepted(backend: str, change: dict[str, object], says: str) -> None:
    arguments = {"x": np.zeros((4, 3), np.float32), **grid(3, 0, 1), "levels": 8, **change}
    x = arguments.pop("x")
    with pytest.raises(UsageError, match=says):
        ops.quantize(x, backend=backend, **arguments)  # type: ignore[arg-type]
