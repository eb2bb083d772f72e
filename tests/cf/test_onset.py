"""The rule of onset: the first site whose family-wise p-value is small, or that holds NaN or Inf."""

from __future__ import annotations

import numpy as np
import pytest

from model_forensics.cf.maximum import MaximumNull
from model_forensics.cf.onset import (
    FAMILY_WISE_ERROR,
    GIVEN_SHARE,
    SHIFT_SHARE,
    SURE,
    OnsetNulls,
    find_onset,
)

NAMES = ["embed", "L0.attn", "L0.mlp", "L0.resid"]
CLEAN = np.full(4, 0.5)
FLOOR = 0.01


def with_p(**p_values: float) -> np.ndarray:
    return np.array([p_values.get(name.replace(".", "_"), 0.5) for name in NAMES])


@pytest.fixture(scope="module")
def nulls() -> OnsetNulls:
    rng = np.random.default_rng(0)
    given, shift = rng.normal(size=(30, 4)), rng.normal(size=(30, 4))
    return OnsetNulls(*(MaximumNull.of(values, np.ones(30), 30) for values in (given, shift)))


def test_the_first_site_that_departs_is_the_onset_however_far_later_ones_depart() -> None:
    onset, reason = find_onset(NAMES, with_p(L0_attn=0.01, L0_mlp=2e-4), [False] * 4, FLOOR)
    assert (onset.site if onset else None, reason) == ("L0.attn", None)
    assert onset is not None
    assert onset.p_value == 0.01
    assert onset.sigma == pytest.approx(2.3263, abs=1e-4)


@pytest.mark.parametrize(
    ("before", "surest", "onset"),
    [
        (1e-3, 1e-6, "L0.attn"),  # half as many zeros
        (1.1e-3, 1e-6, "L0.mlp"),
        (SURE, 1e-200, "L0.attn"),  # sure by itself, whatever it grows to
        (1.1 * SURE, 1e-200, "L0.mlp"),
        (1e-5, 0.0, "L0.attn"),
        (0.04, 0.01, "L0.attn"),  # nothing is sure
        (0.04, np.nan, "L0.attn"),
    ],
)
def test_a_departure_that_is_not_half_as_sure_as_a_later_one_is_not_the_onset(before, surest, onset) -> None:
    found, _ = find_onset(NAMES, with_p(L0_attn=before, L0_mlp=surest), [False] * 4, FLOOR)
    assert found is not None
    assert found.site == onset


def test_a_weak_departure_before_a_value_that_is_not_finite_is_not_the_onset() -> None:
    for weak, onset in ((0.009, "L0.attn"), (0.011, "L0.mlp")):
        found, _ = find_onset(NAMES, with_p(L0_attn=weak), [False, False, True, False], FLOOR)
        assert found is not None
        assert found.site == onset


def test_none_where_no_site_departs() -> None:
    assert find_onset(NAMES, with_p(L0_mlp=FAMILY_WISE_ERROR + 1e-9), [False] * 4, FLOOR) == (None, None)
    assert find_onset(NAMES, np.full(4, np.nan), [False] * 4, FLOOR) == (None, None)


def test_the_recordings_first_site_is_its_input() -> None:
    onset, _ = find_onset(NAMES, with_p(embed=0.0001, L0_mlp=1e-9), [False] * 4, FLOOR)
    assert onset is not None
    assert onset.site == "input"


def test_nan_departs_by_itself_with_the_floor_as_its_p_value() -> None:
    onset, _ = find_onset(NAMES, with_p(L0_resid=1e-9), [False, False, True, False], FLOOR)
    assert onset is not None
    assert (onset.site, onset.p_value) == ("L0.mlp", FLOOR)


def test_too_few_groups_are_named() -> None:
    onset, reason = find_onset(NAMES, None, [False] * 4, None)
    assert onset is None
    assert reason is not None
    assert "too few groups" in reason


def test_each_statistic_has_a_share_of_the_error(nulls: OnsetNulls) -> None:
    assert pytest.approx(1) == GIVEN_SHARE + SHIFT_SHARE
    far, near = np.array([9.0, 0, 0, 0]), np.zeros(4)
    assert nulls.shift is not None
    shifted, given = nulls.shift.p_values(far)[0], nulls.given.p_values(far)[0]
    assert nulls.p_values(np.exp(near), far)[0] == pytest.approx(shifted / SHIFT_SHARE)
    assert nulls.p_values(np.exp(far), near)[0] == pytest.approx(given / GIVEN_SHARE)
    assert nulls.p_values(np.full(4, np.nan), far)[0] == pytest.approx(shifted / SHIFT_SHARE)
    assert nulls.p_values(np.exp(near), near).max() <= 1


def test_a_site_that_neither_statistic_knows_stays_unknown(nulls: OnsetNulls) -> None:
    given, shift = np.ones(4), np.zeros(4)
    given[1] = shift[1] = shift[2] = np.nan
    p = nulls.p_values(given, shift)
    assert np.isnan(p[1])
    assert np.isfinite(p[[0, 2, 3]]).all()


def test_a_score_of_zero_is_no_departure(nulls: OnsetNulls) -> None:
    assert (nulls.p_values(np.zeros(4), np.full(4, np.nan)) > FAMILY_WISE_ERROR).all()


def test_few_groups_have_no_shifts(nulls: OnsetNulls) -> None:
    few = OnsetNulls(nulls.given, None)
    far = np.array([9.0, 0, 0, 0])
    assert few.p_values(np.ones(4), far)[0] > FAMILY_WISE_ERROR
    assert few.p_values(np.exp(far), np.zeros(4))[0] <= FAMILY_WISE_ERROR
