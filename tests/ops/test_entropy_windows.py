from __future__ import annotations

import itertools
from types import ModuleType

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from model_forensics import ops
from model_forensics.errors import UsageError
from model_forensics.ops import _tables

Symbols = npt.NDArray[np.uint8]
fixture_is_a_name = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def textbook(symbols: Symbols, window: int, stride: int) -> npt.NDArray[np.float64]:
    """−Σ p log2 p of each window, straight from the definition."""
    bits = []
    for start in range(0, len(symbols) - window + 1, stride):
        counts = np.bincount(symbols[start : start + window])
        p = counts[counts > 0] / window
        bits.append(-(p * np.log2(p)).sum())
    return np.array(bits, dtype=np.float64)


@fixture_is_a_name
@given(
    symbols=hnp.arrays(np.uint8, st.integers(0, 300)),
    window=st.integers(1, 70),
    stride=st.integers(1, 90),
    cuts=st.lists(st.integers(0, 300), max_size=4),
)
@example(symbols=np.zeros(0, np.uint8), window=1, stride=1, cuts=[])
def test_agrees_with_the_definition_and_exactly_with_the_reference(
    backend: str, symbols: Symbols, window: int, stride: int, cuts: list[int]
) -> None:
    inner = sorted(min(cut, symbols.size) for cut in cuts)
    offsets = np.array([0, *inner, symbols.size], dtype=np.int64)
    got = ops.entropy_windows(symbols, window=window, stride=stride, offsets=offsets, backend=backend)
    rows = [symbols[a:b] for a, b in itertools.pairwise(offsets)]
    expected = np.concatenate([textbook(row, window, stride) for row in rows])
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-9)
    reference = ops.entropy_windows(symbols, window=window, stride=stride, offsets=offsets, backend="numpy")
    np.testing.assert_array_equal(got, reference)


@pytest.mark.parametrize("alphabet", [16, 256])
@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 997, 4099])
def test_odd_sizes(backend: str, size: int, alphabet: int) -> None:
    symbols = np.random.default_rng(size).integers(0, alphabet, size, dtype=np.uint8)
    got = ops.entropy_windows(symbols, alphabet=alphabet, backend=backend)
    assert got.dtype == np.float64
    assert got.shape == (0 if size < 256 else (size - 256) // 64 + 1,)
    np.testing.assert_allclose(got, textbook(symbols, 256, 64), rtol=0, atol=1e-9)


def test_known_values_are_exact(backend: str) -> None:
    constant = np.zeros(512, dtype=np.uint8)
    assert ops.entropy_windows(constant, backend=backend).tolist() == [0.0] * 5
    every_byte_once = np.arange(256, dtype=np.uint8)
    assert ops.entropy_windows(every_byte_once, backend=backend).tolist() == [8.0]
    coin = np.array([3, 200] * 8, dtype=np.uint8)
    assert ops.entropy_windows(coin, window=16, stride=1, backend=backend).tolist() == [1.0]


def test_views_and_read_only_arrays(backend: str) -> None:
    wide = np.random.default_rng(1).integers(0, 256, 2000, dtype=np.uint8)
    view = wide[::2]
    wide.setflags(write=False)
    expected = ops.entropy_windows(view.copy(), backend="numpy")
    np.testing.assert_array_equal(ops.entropy_windows(view, backend=backend), expected)
    np.testing.assert_array_equal(ops.entropy_windows(wide[::-2][::-1], backend=backend).shape, expected.shape)


def test_every_output_is_written(implementation: ModuleType) -> None:
    symbols = np.random.default_rng(2).integers(0, 256, 1000, dtype=np.uint8)
    offsets = np.array([0, 100, 100, 1000], dtype=np.int64)
    out = np.full((900 - 256) // 64 + 1, np.nan)
    implementation.entropy_windows(symbols, offsets, 256, 64, 256, _tables.window_costs(256), out)
    assert np.isfinite(out).all()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"window": 0}, "window is 0"),
        ({"window": -4}, "window is -4"),
        ({"window": 2.5}, "window is 2.5"),
        ({"window": 1 << 21}, "1048576"),
        ({"stride": 0}, "stride is 0"),
        ({"stride": True}, "stride is True"),
        ({"alphabet": 1}, "from 2 to 256"),
        ({"alphabet": 257}, "from 2 to 256"),
        ({"alphabet": 16}, "outside the alphabet of 16"),
        ({"offsets": np.array([0, 5], dtype=np.int64)}, "end at 300"),
        ({"offsets": np.array([0, 200, 100, 300], dtype=np.int64)}, "do not decrease"),
        ({"offsets": np.array([0, 300], dtype=np.int32)}, "int64"),
        ({"offsets": [0, 300]}, "not a NumPy array"),
    ],
)
def test_wrong_arguments_say_what_is_accepted(backend: str, arguments: dict[str, object], says: str) -> None:
    symbols = np.full(300, 200, dtype=np.uint8)
    with pytest.raises(UsageError, match=says):
        ops.entropy_windows(symbols, backend=backend, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.float32, np.bool_])
def test_other_dtypes_are_refused_not_cast(backend: str, dtype: type) -> None:
    with pytest.raises(UsageError, match="uint8"):
        ops.entropy_windows(np.zeros(300, dtype=dtype), backend=backend)


def test_two_dimensions_are_refused(backend: str) -> None:
    with pytest.raises(UsageError, match="shape"):
        ops.entropy_windows(np.zeros((3, 300), dtype=np.uint8), backend=backend)
