"""The shift statistic: the same for held-out and for new groups, and sharper the more groups share a shift."""

from __future__ import annotations

import numpy as np
import pytest

from model_forensics.cf.shift import Shift

GROUPS, SITES, WIDTH = 40, 30, 16


def profiles_of(seed: int, groups: int, spread: float = 1.0) -> np.ndarray:
    """[groups, sites, sketch] of exchangeable groups; sites differ in location and scale."""
    fixed = np.random.default_rng(1)
    location = fixed.normal(size=(SITES, WIDTH))
    scale = np.exp(fixed.normal(size=(SITES, 1)))
    return location + spread * scale * np.random.default_rng([2, seed]).normal(size=(groups, SITES, WIDTH))


def scale_of_sites() -> np.ndarray:
    fixed = np.random.default_rng(1)
    fixed.normal(size=(SITES, WIDTH))
    return np.exp(fixed.normal(size=(SITES, 1)))


def shift_of(profiles: np.ndarray) -> Shift:
    return Shift(profiles, np.arange(len(profiles)))


def distance(shift: Shift, profiles: np.ndarray) -> np.ndarray:
    return shift.distance(profiles.mean(axis=0), np.full(SITES, float(len(profiles))))


@pytest.mark.parametrize("size", [1, 4])
def test_held_out_and_new_groups_are_equally_far_away_on_average(size: int) -> None:
    shift = shift_of(profiles_of(0, GROUPS))
    held_out = [shift.held_out(np.arange(start, start + size)) for start in range(0, GROUPS - size + 1, size)]
    new = [distance(shift, profiles_of(seed, size)) for seed in range(1, 1 + len(held_out))]
    # Each mean is over some hundred (group, site) pairs or more, whose logs spread by about 0.4.
    assert np.mean(held_out) == pytest.approx(np.mean(new), abs=0.08)
    assert np.mean(new) == pytest.approx(0.0, abs=0.15)  # the log of one: the expected square


def test_a_small_common_shift_is_seen_with_ten_groups_and_not_with_one() -> None:
    shift = shift_of(profiles_of(0, GROUPS))
    moved = profiles_of(99, 10) + 0.5 * scale_of_sites()
    one = np.mean([distance(shift, profiles_of(seed, 1)) for seed in range(200, 260)], axis=0)
    ten = np.quantile([distance(shift, profiles_of(seed, 10)) for seed in range(300, 360)], 0.95, axis=0)
    beyond_one = np.quantile([distance(shift, profiles_of(seed, 1)) for seed in range(200, 260)], 0.95, axis=0)
    assert one.shape == (SITES,)
    assert np.mean(distance(shift, moved) > ten) > 0.8
    assert np.mean(distance(shift, moved[:1]) > beyond_one) < 0.4


def test_samples_of_one_group_count_once() -> None:
    profiles = profiles_of(0, 10)
    repeated = Shift(np.repeat(profiles, 3, axis=0), np.repeat(np.arange(10), 3))
    new = profiles_of(5, 1)
    np.testing.assert_allclose(distance(repeated, new), distance(shift_of(profiles), new))


def test_a_shift_at_one_site_moves_no_other() -> None:
    shift = shift_of(profiles_of(0, GROUPS))
    new = profiles_of(7, 1)
    moved = new.copy()
    moved[:, 3] += 10
    before, after = distance(shift, new), distance(shift, moved)
    assert after[3] > before[3]
    np.testing.assert_array_equal(np.delete(after, 3), np.delete(before, 3))


def test_what_was_not_measured_stays_unknown_and_teaches_nothing() -> None:
    profiles = profiles_of(0, 12)
    whole = shift_of(profiles[:8])
    profiles[8:, 1] = np.nan  # known of the first eight groups
    profiles[1:, 2] = np.nan  # known of one group: no spread
    profiles[:, 4] = np.nan
    shift = shift_of(profiles)
    new = profiles_of(5, 1)
    new[:, 5] = np.nan
    found = distance(shift, new)
    assert np.isnan(found[[2, 4, 5]]).all()
    assert np.isfinite(np.delete(found, [2, 4, 5])).all()
    assert found[1] == pytest.approx(distance(whole, new)[1])
    assert np.isnan(shift.held_out(np.array([9]))[[1, 2, 4]]).all()


def test_a_site_that_never_changes_says_nothing() -> None:
    profiles = profiles_of(0, 12)
    profiles[:, 0] = 0.0
    found = distance(shift_of(profiles), profiles_of(5, 1))
    assert np.isnan(found[0])
    assert np.isfinite(found[1:]).all()
