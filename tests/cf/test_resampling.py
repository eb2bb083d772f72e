"""Means over benign groups spread like those over new ones, and are judged by groups that they do not hold."""

from __future__ import annotations

import numpy as np
import pytest

from model_forensics.cf.resampling import HeldOutScores

SITES, COLUMNS = 60, 8
NONE = np.zeros((SITES, COLUMNS))


def scores_of(values: np.ndarray, prior: float = 0.0) -> HeldOutScores:
    return HeldOutScores(values, np.arange(len(values)), NONE + prior)


@pytest.mark.parametrize(("groups", "size"), [(20, 2), (20, 4), (100, 10)])
def test_draws_have_the_spread_of_a_new_mean_in_the_unit_of_one_sample(groups: int, size: int) -> None:
    rng = np.random.default_rng([groups, size])
    drawn, new = [], []
    for _ in range(5):
        values = 3 * rng.normal(size=(groups, SITES, COLUMNS))
        held_out = scores_of(values)
        drawn += [held_out.draw(size, rng) for _ in range(40)]
        mean, spread = values.mean(axis=0), values.std(axis=0, ddof=1)
        fresh = 3 * rng.normal(size=(40, size, SITES, COLUMNS)).mean(axis=1)
        new.append(spread * (fresh - mean) / (spread * np.sqrt(1 / size + 1 / groups)))
    # What judges a draw holds `size` groups fewer, so its spread is known a little less well: draws lie a bit wider.
    assert 1.0 <= np.var(drawn) / np.var(new) < 1.25


def test_a_draw_is_judged_by_the_spread_of_the_others() -> None:
    values = np.random.default_rng(1).normal(size=(30, SITES, COLUMNS))
    values[0] += 50
    rng = np.random.default_rng(2)
    found = np.abs([scores_of(values).draw(1, rng) for _ in range(150)]).max(axis=0) / values.std(axis=0, ddof=1)
    # By all groups it would be some five deviations away, for it makes most of the deviation itself.
    assert (np.abs(values[0] - values.mean(axis=0)) / values.std(axis=0, ddof=1) < 5.4).all()
    assert (found > 20).all()


def test_moderation_pulls_the_others_spread_to_that_of_all() -> None:
    values = np.random.default_rng(1).normal(size=(10, SITES, COLUMNS))
    loose, tight = (scores_of(values, prior).draw(4, np.random.default_rng(5)) for prior in (0.0, 1e9))
    assert (np.sign(loose) == np.sign(tight)).all()
    assert np.abs(np.log(np.abs(loose / tight))).mean() > 0.1
    spread = np.abs(values.std(axis=0, ddof=1))
    chosen = np.random.default_rng(5).choice(10, 4, replace=False)
    others = np.delete(values, chosen, axis=0)
    expected = (values[chosen].mean(axis=0) - others.mean(axis=0)) / np.sqrt(1 / 4 + 1 / 6)
    np.testing.assert_allclose(tight, expected, rtol=1e-6)
    np.testing.assert_allclose(loose, expected * spread / others.std(axis=0, ddof=1))


def test_samples_of_one_group_count_once() -> None:
    values = np.random.default_rng(3).normal(size=(12, SITES, COLUMNS))
    repeated = HeldOutScores(np.repeat(values, 3, axis=0), np.repeat(np.arange(12), 3), NONE)
    chosen = np.random.default_rng(0).choice(12, 3, replace=False)
    others = np.delete(values, chosen, axis=0)
    expected = (values[chosen].mean(axis=0) - others.mean(axis=0)) / np.sqrt(1 / 3 + 1 / 9)
    expected *= values.std(axis=0, ddof=1) / others.std(axis=0, ddof=1)
    np.testing.assert_allclose(repeated.draw(3, np.random.default_rng(0)), expected)


def test_what_was_not_measured_stays_unknown_and_teaches_nothing() -> None:
    values = np.random.default_rng(4).normal(size=(20, SITES, COLUMNS))
    values[:, 0] = np.nan
    values[1:, 1] = np.nan  # one group: nothing to judge it by
    values[::2, 2] = np.nan
    draws = np.array([scores_of(values).draw(2, np.random.default_rng(seed)) for seed in range(40)])
    assert np.isnan(draws[:, :2]).all()
    assert np.isfinite(draws[:, 3:]).all()
    assert 0.1 < np.isnan(draws[:, 2]).mean() < 0.4  # no even group: 9/38
    assert np.nanvar(draws[:, 2]) == pytest.approx(1.0, abs=0.5)


def test_what_never_changes_in_the_others_is_judged_by_all() -> None:
    values = np.zeros((20, SITES, COLUMNS))
    values[7, 0] = 1.0
    draws = np.array([scores_of(values).draw(1, np.random.default_rng(seed)) for seed in range(60)])
    assert (draws[:, 1:] == 0).all()
    assert np.isfinite(draws).all()
    assert draws[:, 0].max() == pytest.approx(1 / np.sqrt(1 + 1 / 19))
