"""The shift statistic: the same for held-out and for new groups, and sharper the more groups share a shift."""

from __future__ import annotations

import numpy as np
import pytest

from model_forensics.cf.innovation import FOLDS
from model_forensics.cf.shift import Shift

GROUPS, SITES, WIDTH = 40, 30, 16


def profiles_of(seed: int, groups: int) -> np.ndarray:
    """[groups, sites, sketch] of exchangeable groups around zero; sites and directions differ in scale."""
    scale = np.exp(np.random.default_rng(1).normal(size=(SITES, WIDTH)))
    return scale * np.random.default_rng([2, seed]).normal(size=(groups, SITES, WIDTH))


def scale_of_sites() -> np.ndarray:
    return np.exp(np.random.default_rng(1).normal(size=(SITES, WIDTH)))


def held_out(values: np.ndarray) -> np.ndarray:
    """[groups, sites, sketch] deviations from the mean of the groups outside the own fold."""
    folds = np.arange(len(values)) % FOLDS
    return values - np.stack([values[folds != fold].mean(axis=0) for fold in folds])


def shift_of(profiles: np.ndarray) -> Shift:
    return Shift(profiles, np.arange(len(profiles)))


def distance(shift: Shift, profiles: np.ndarray) -> np.ndarray:
    return shift.distance(profiles.mean(axis=0), np.full(SITES, float(len(profiles))))


@pytest.mark.parametrize("groups", [20, 60])
@pytest.mark.parametrize("size", [1, 2])
def test_held_out_groups_of_a_fold_are_as_far_away_as_any_number_of_new_ones(groups: int, size: int) -> None:
    inside, new = [], {1: [], 10: []}
    for baseline in range(12):
        values = profiles_of(baseline, groups)
        shift, rng = shift_of(held_out(values)), np.random.default_rng(baseline)
        inside.append(np.mean([shift.held_out(shift.draw(size, rng)) for _ in range(20)]))
        for count, found in new.items():
            others = profiles_of(1000 + baseline, 20 * count).reshape(20, count, SITES, WIDTH) - values.mean(axis=0)
            found.append(np.mean([distance(shift, one) for one in others]))
    # Means over 240 draws of 30 sites whose logs spread by some 0.4, but twelve baselines; they agree to about 0.02.
    assert np.mean(inside) == pytest.approx(np.mean(new[1]), abs=0.08)
    assert np.mean(inside) == pytest.approx(np.mean(new[10]), abs=0.08)


def test_a_small_common_shift_is_seen_with_ten_groups_and_not_with_one() -> None:
    shift = shift_of(profiles_of(0, GROUPS))
    moved = profiles_of(99, 10) + 0.5 * scale_of_sites()
    ten = np.quantile([distance(shift, profiles_of(seed, 10)) for seed in range(300, 360)], 0.95, axis=0)
    one = np.quantile([distance(shift, profiles_of(seed, 1)) for seed in range(200, 260)], 0.95, axis=0)
    assert np.mean(distance(shift, moved) > ten) > 0.8
    assert np.mean(distance(shift, moved[:1]) > one) < 0.4


def test_a_draw_holds_different_groups_of_one_fold() -> None:
    numbers = np.repeat(np.arange(23), 2)
    shift, rng = Shift(np.zeros((46, SITES, WIDTH)), numbers), np.random.default_rng(0)
    draws = [shift.draw(4, rng) for _ in range(100)]
    folds = {tuple(np.unique(numbers[draw] % FOLDS)) for draw in draws}
    assert folds == {(fold,) for fold in range(FOLDS)}
    assert all(np.unique(numbers[draw]).size == draw.size == 4 for draw in draws)
    assert set(np.concatenate(draws)) == set(range(46))


def test_a_fold_of_fewer_groups_is_drawn_whole() -> None:
    shift, rng = shift_of(profiles_of(0, 11)), np.random.default_rng(0)
    assert sorted({shift.draw(3, rng).size for _ in range(50)}) == [2, 3]


def test_what_is_judged_does_not_judge_itself() -> None:
    profiles = profiles_of(0, GROUPS)
    larger = profiles.copy()
    larger[[3, 8]] *= 10
    found = shift_of(larger).held_out(np.array([3, 8])) - shift_of(profiles).held_out(np.array([3, 8]))
    np.testing.assert_allclose(found, np.log(100), atol=1e-6)


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
