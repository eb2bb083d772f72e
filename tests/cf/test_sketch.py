"""Sketches: linear, averages of tokens, blind to what was not recorded or is not finite."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy import MemoryRecording

from model_forensics.cf.planes import Entries, Layout, read_entries
from model_forensics.cf.sketch import LIMIT, SKETCH, Sketcher, _buckets
from model_forensics.types import Sparse

NARROW, WIDE = 10, 200
FIRST, LATER = 0, 1


def layout_of(activations: dict[str, Any]) -> Layout:
    return Layout(tuple(MemoryRecording("r", [activations], ["g"]).sites.values()))


def entries_of(activations: dict[str, Any], layout: Layout | None = None) -> Entries:
    return read_entries(MemoryRecording("r", [activations], ["g"]), 0, layout or layout_of(activations))


def sketcher_of(layout: Layout, position_class: int = LATER, octave: float = 0.0) -> Sketcher:
    """Of channels whose typical magnitude is 2 to the `octave`."""
    model: Any = SimpleNamespace(location=np.full(layout.channels, octave, dtype=np.float32))
    return Sketcher.of(layout, model, position_class)


def activations(seed: int, tokens: int = 7) -> dict[str, np.ndarray]:
    """Well inside the limit."""
    rng = np.random.default_rng(seed)
    widths = {"embed": NARROW, "L0.mlp": WIDE}
    return {name: rng.uniform(-2, 2, (tokens, width)).astype(np.float32) for name, width in widths.items()}


def mean_of(values: dict[str, Any], position_class: int = LATER, octave: float = 0.0) -> np.ndarray:
    layout = layout_of(values)
    return sketcher_of(layout, position_class, octave).mean(entries_of(values, layout))


@given(seed=st.integers(0, 10**6), scale=st.floats(-1, 1, width=32), octave=st.integers(0, 3))
def test_linear_in_values_inside_the_limit(seed: int, scale: float, octave: int) -> None:
    one, other = activations(seed), activations(seed + 1)
    mixed = {name: np.float32(scale) * one[name] + other[name] for name in one}
    expected = scale * mean_of(one, octave=octave) + mean_of(other, octave=octave)
    np.testing.assert_allclose(mean_of(mixed, octave=octave), expected, atol=1e-5)


@pytest.mark.parametrize("sign", [-1, 1])
def test_values_beyond_the_limit_count_as_the_limit(sign: int) -> None:
    octave = 2
    at_limit = {"embed": np.full((3, NARROW), sign * LIMIT * 2**octave, dtype=np.float32)}
    beyond = {"embed": at_limit["embed"] * 1000}
    np.testing.assert_array_equal(mean_of(beyond, octave=octave), mean_of(at_limit, octave=octave))


@given(seed=st.integers(0, 10**6), share=st.floats(0, 1), bad=st.sampled_from([np.nan, np.inf, -np.inf]))
def test_absent_and_nonfinite_entries_count_as_zero(seed: int, share: float, bad: float) -> None:
    values = activations(seed)
    rng = np.random.default_rng(seed)
    gone = {name: rng.random(array.shape) < share for name, array in values.items()}
    zero = {name: np.where(gone[name], np.float32(0), array) for name, array in values.items()}
    broken = {name: np.where(gone[name], np.float32(bad), array) for name, array in values.items()}
    sparse = {}
    for name, array in values.items():
        places = np.flatnonzero(~gone[name])
        sparse[name] = Sparse(array.reshape(-1)[places], places, array.shape)
    np.testing.assert_array_equal(mean_of(broken), mean_of(zero))
    np.testing.assert_array_equal(mean_of(sparse), mean_of(zero))


def test_each_class_sees_its_own_tokens_only() -> None:
    values = activations(1)
    other_first = {name: np.concatenate([-array[:1], array[1:]]) for name, array in values.items()}
    other_later = {name: np.concatenate([array[:1], -array[1:]]) for name, array in values.items()}
    np.testing.assert_array_equal(mean_of(other_first, LATER), mean_of(values, LATER))
    np.testing.assert_array_equal(mean_of(other_later, FIRST), mean_of(values, FIRST))
    np.testing.assert_allclose(mean_of(other_first, FIRST), -mean_of(values, FIRST))
    np.testing.assert_allclose(mean_of(other_later, LATER), -mean_of(values, LATER))


@given(tokens=st.integers(1, 12), position_class=st.sampled_from([FIRST, LATER]), spare=st.integers(0, 3))
def test_rows_average_to_the_mean_where_all_tokens_are_taken(tokens: int, position_class: int, spare: int) -> None:
    values = activations(tokens, tokens)
    layout = layout_of(values)
    sketcher, entries = sketcher_of(layout, position_class), entries_of(values, layout)
    taken = 1 if position_class == FIRST else tokens - 1
    rows = sketcher.rows(entries, max(1, taken) + spare)
    assert rows.shape == (taken, len(layout), SKETCH)
    mean = sketcher.mean(entries)
    if taken:
        np.testing.assert_allclose(rows.mean(axis=0), mean, atol=1e-5)
    else:
        assert np.isnan(mean).all()


@given(tokens=st.integers(2, 30), most=st.integers(1, 30))
def test_rows_are_those_of_evenly_spaced_tokens(tokens: int, most: int) -> None:
    values = activations(3, tokens)
    layout = layout_of(values)
    sketcher = sketcher_of(layout)
    rows = sketcher.rows(entries_of(values, layout), most)
    every = sketcher.rows(entries_of(values, layout), tokens)
    picked = [int(np.flatnonzero((every == row).all(axis=(1, 2)))[0]) for row in rows]
    assert len(rows) == min(most, tokens - 1)
    assert picked[0] == 0
    assert np.ptp(np.diff(picked)) <= 1 if len(picked) > 2 else True
    if most > 1:
        assert picked[-1] == tokens - 2


def test_rows_leave_out_sites_with_another_number_of_tokens() -> None:
    values = activations(4)
    values["L0.mlp"] = values["L0.mlp"][:3]
    layout = layout_of(values)
    rows = sketcher_of(layout).rows(entries_of(values, layout), 100)
    assert np.isfinite(rows[:, 0]).all()
    assert np.isnan(rows[:, 1]).all()


def test_a_sample_without_a_site_has_no_mean_there() -> None:
    values = activations(5)
    layout = layout_of(values)
    mean = sketcher_of(layout).mean(entries_of({"embed": values["embed"]}, layout))
    assert np.isfinite(mean[0]).all()
    assert np.isnan(mean[1]).all()


def test_narrow_sites_are_kept_as_they_are() -> None:
    values = activations(6)
    octave = 1
    mean = mean_of(values, octave=octave)[0]
    np.testing.assert_allclose(mean[:NARROW], values["embed"][1:].mean(axis=0) / 2**octave, atol=1e-6)
    assert not mean[NARROW:].any()


def test_wide_sites_keep_squared_lengths_on_average() -> None:
    """Of a bucket as of a channel: the sketch's mean square is the channels' mean square."""
    rng = np.random.default_rng(7)
    values = {"L0.mlp": rng.normal(size=(500, WIDE)).astype(np.float32).clip(-LIMIT, LIMIT)}
    layout = layout_of(values)
    rows = sketcher_of(layout).rows(entries_of(values, layout), 500)
    assert np.mean(rows**2) == pytest.approx(np.mean(values["L0.mlp"] ** 2), rel=0.05)


def test_buckets_are_pinned() -> None:
    """Saved baselines hold sketches: other buckets would make them incomparable without anybody noticing."""
    bucket, sign = _buckets(130)
    assert bucket[:8].tolist() == [42, 26, 31, 21, 54, 49, 35, 10]
    assert sign[:8].tolist() == [-1.0, 1.0, -1.0, 1.0, 1.0, -1.0, 1.0, 1.0]
    assert np.bincount(bucket, minlength=SKETCH).tolist() == [3] * 2 + [2] * 62
