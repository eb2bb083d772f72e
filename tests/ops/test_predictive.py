"""Codes under predictive models: every backend gives the bits of the reference, and the reference is the definition."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from model_forensics import ops
from model_forensics.errors import UsageError
from tests.ops.cases import core_with, instruction_sets

CHANNELS = 700
SITES = [(0, 0), (1, 3), (255, 90), (0, 7), (256, 200), (257, 100), (1100, 300)]  # (entries, channels)


def model(seed: int = 0, channels: int = CHANNELS, levels: int = 32) -> ops.Predictive:
    random = np.random.default_rng(seed)

    def floats(low: float, high: float) -> np.ndarray:
        return random.uniform(low, high, channels).astype(np.float32)

    bits = random.uniform(0.5, 12, (4, levels))
    positive = floats(0, 1)
    positive[:4] = (2.0**-24, 1 - 2.0**-24, 0.5, 1e-30)
    return ops.Predictive(
        location=floats(-9, 3),
        scale=np.exp(floats(-8, 2)).astype(np.float32),
        degrees=random.integers(0, 4, channels).astype(np.uint8),
        positive=positive,
        presence_gain=floats(-19, 19),
        bits=bits,
        expected=bits.mean(axis=1),
        step=0.25,
        resolution=1 / 128,
        least_scale=0.02,
        largest_square=100.0,
    )


def entries(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values with the strangest finite ones among them, channels, starts."""
    random = np.random.default_rng(seed)
    total = sum(count for count, _ in SITES)
    x = (random.standard_normal(total) * np.exp2(random.uniform(-9, 3, total))).astype(np.float32)
    x[random.random(total) < 0.05] = random.choice(np.array([1e-45, -1e-40, 3.4e38, -3.4e38, 1.0, -2.0], np.float32))
    first = np.cumsum([0] + [width for _, width in SITES])
    channels = np.concatenate([first[i] + random.integers(0, max(1, w), n) for i, (n, w) in enumerate(SITES)])
    starts = np.cumsum([0] + [count for count, _ in SITES])
    return x, channels.astype(np.int64), starts.astype(np.int64)


def equal(got: tuple[np.ndarray, ...], expected: tuple[np.ndarray, ...]) -> None:
    for name, mine, theirs in zip(ops.PredictiveBits._fields, got, expected, strict=True):
        np.testing.assert_array_equal(mine, theirs, err_msg=name)


@pytest.mark.parametrize("levels", [1, 5, 32, 256])
def test_every_backend_gives_the_bits_of_the_reference(backend: str, levels: int) -> None:
    x, channels, starts = entries()
    how = model(levels=levels)
    expected = ops.predictive_bits(x, channels, starts, how, backend="numpy")
    equal(ops.predictive_bits(x, channels, starts, how, backend=backend), expected)
    for isa in instruction_sets():
        for threads in (1, 3):
            with core_with(isa, threads):
                equal(ops.predictive_bits(x, channels, starts, how, backend="cpp"), expected)


def test_the_reference_is_the_definition() -> None:
    how = model(3)
    x, channels, starts = entries(1)
    got = ops.predictive_bits(x, channels, starts, how, backend="numpy")
    for i in range(0, x.size, 37):
        channel = channels[i]
        scale, location = float(how.scale[channel]), float(how.location[channel])
        magnitude = math.log2(abs(float(x[i])))
        symbol = min(max(math.floor((magnitude - location) / (0.25 * scale) + 16), 0), 31)
        assert abs(int(got.symbols[i]) - symbol) <= 1  # the definition's grid is float32
        row = how.degrees[channel]
        chance = float(how.positive[channel])
        mean = -(chance * math.log2(chance) + (1 - chance) * math.log2(1 - chance))
        sign = -math.log2(chance if x[i] > 0 else 1 - chance) - mean
        paid = how.bits[row, got.symbols[i]] - how.expected[row]
        assert got.excess[i] == pytest.approx(paid + sign, rel=1e-9, abs=1e-9)
        assert got.presence[i] == how.presence_gain[channel]


def test_sums_are_those_of_the_entries(backend: str) -> None:
    how = model(4)
    x, channels, starts = entries(2)
    got = ops.predictive_bits(x, channels, starts, how, backend=backend)
    scale = how.scale[channels].astype(np.float64)
    difference = np.log2(np.abs(x.astype(np.float64))) - how.location[channels]
    precision = 1 / np.maximum(scale, 0.02) ** 2
    for site, (start, stop) in enumerate(pairwise(starts)):
        of = slice(start, stop)
        assert got.counts[site].sum() == stop - start
        assert got.magnitude[site] + got.sign[site] == pytest.approx(got.excess[of].sum())
        assert got.gain[site] == pytest.approx(got.presence[of].sum())
        assert got.precision[site] == pytest.approx(precision[of].sum())
        assert got.drift[site] == pytest.approx((precision * difference)[of].sum())
        drift = got.drift[site] / got.precision[site] if stop > start else 0.0
        squares = np.minimum(((difference[of] - drift) / scale[of]) ** 2, 100)
        assert got.squares[site] == pytest.approx(squares.sum())
        paid = how.bits[how.degrees[channels[of]], got.symbols[of]]
        assert got.static[site] == pytest.approx(paid.sum())
        up = how.positive[channels[of]].astype(np.float64)
        absolute = paid + np.log2(0.25 * scale[of] * 128) - np.log2(np.where(x[of] > 0, up, 1 - up))
        assert got.absolute[site] == pytest.approx(absolute.sum())


def test_nothing_recorded_costs_nothing(backend: str) -> None:
    nothing = np.zeros(0, np.float32), np.zeros(0, np.int64)
    got = ops.predictive_bits(*nothing, np.zeros(4, np.int64), model(), backend=backend)
    assert got.excess.shape == (0,)
    assert got.counts.shape == (3, 32)
    assert not got.counts.any()
    assert not got.absolute.any()
    empty = ops.predictive_bits(*nothing, np.zeros(1, np.int64), model(), backend=backend)
    assert empty.magnitude.shape == (0,)


def test_moments_of_every_backend(backend: str) -> None:
    x, channels, _ = entries(5)
    start = np.random.default_rng(0).uniform(0, 9, (4, CHANNELS))
    expected, got = start.copy(), start.copy()
    ops.add_moments(x, channels, *expected, backend="numpy")
    ops.add_moments(x, channels, *got, backend=backend)
    np.testing.assert_array_equal(got, expected)
    for isa in instruction_sets():
        with core_with(isa, 1):
            again = start.copy()
            ops.add_moments(x, channels, *again, backend="cpp")
            np.testing.assert_array_equal(again, expected)
    magnitude = np.log2(np.abs(x.astype(np.float64)))
    for row, weight in enumerate((None, magnitude, magnitude**2, x > 0)):
        total = start[row] + np.bincount(channels, weights=weight, minlength=CHANNELS)
        np.testing.assert_allclose(got[row], total, rtol=1e-12)


def _with(values: np.ndarray, place: int, value: Any) -> np.ndarray:
    changed = values.copy()
    changed[place] = value
    return changed


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_what_has_no_logarithm_is_refused(backend: str, value: float) -> None:
    x, channels, starts = entries()
    with pytest.raises(UsageError, match="0, NaN or Inf"):
        ops.predictive_bits(_with(x, 9, value), channels, starts, model(), backend=backend)
    sums = np.zeros((4, CHANNELS))
    with pytest.raises(UsageError, match="0, NaN or Inf"):
        ops.add_moments(_with(x, 9, value), channels, *sums, backend=backend)
    assert not sums.any()


def test_channels_and_starts_that_are_not_there_are_refused(backend: str) -> None:
    x, channels, starts = entries()
    for number in (-1, CHANNELS):
        with pytest.raises(UsageError, match="channels holds"):
            ops.predictive_bits(x, _with(channels, 3, number), starts, model(), backend=backend)
        with pytest.raises(UsageError, match="channels holds"):
            ops.add_moments(x, _with(channels, 3, number), *np.zeros((4, CHANNELS)), backend=backend)
    with pytest.raises(UsageError, match="offsets"):
        ops.predictive_bits(x, channels, starts[:-1], model(), backend=backend)
    with pytest.raises(UsageError, match="int64"):
        ops.predictive_bits(x, channels.astype(np.int32), starts, model(), backend=backend)


def test_moments_are_never_added_to_a_copy(backend: str) -> None:
    x, channels, _ = entries()
    sums = np.zeros((CHANNELS, 4))
    with pytest.raises(UsageError, match="in place"):
        ops.add_moments(x, channels, *sums.T, backend=backend)
    frozen = np.zeros((4, CHANNELS))
    frozen.setflags(write=False)
    with pytest.raises(UsageError, match="in place"):
        ops.add_moments(x, channels, *frozen, backend=backend)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"scale": np.zeros(CHANNELS, np.float32)}, "above 0"),
        ({"location": np.full(CHANNELS, np.nan, np.float32)}, "not finite"),
        ({"degrees": np.full(CHANNELS, 4, np.uint8)}, "bits has 4 rows"),
        ({"positive": np.zeros(3, np.float32)}, "shape"),
        ({"positive": np.zeros(CHANNELS, np.float32)}, "between 0 and 1"),
        ({"positive": np.full(CHANNELS, np.nan, np.float32)}, "between 0 and 1"),
        ({"bits": np.zeros((4, 257))}, "columns of bits"),
        ({"expected": np.zeros(3)}, "shape"),
    ],
)
def test_models_that_cannot_be_are_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        ops.Predictive(**{**vars(model()), **change})
