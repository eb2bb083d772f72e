"""Family-wise p-values: the promised rate over dependent sites, whatever the sites' scales."""

from __future__ import annotations

import numpy as np
import pytest

from model_forensics.cf.maximum import MaximumNull, largest

SITES = 20
SCALES = np.linspace(0.7, 1.4, SITES)  # sites are not equally regular
OFFSETS = np.linspace(-5, 5, SITES)


def draws_of(rng: np.random.Generator, count: int, dependence: float) -> np.ndarray:
    """[draws, sites] exchangeable draws of equally correlated sites."""
    common, own = rng.normal(size=(count, 1)), rng.normal(size=(count, SITES))
    return OFFSETS + SCALES * (np.sqrt(dependence) * common + np.sqrt(1 - dependence) * own)


def null_of(values: np.ndarray) -> MaximumNull:
    return MaximumNull.of(values, np.ones(len(values)), len(values))


def rate_of(groups: int, dependence: float) -> float:
    """Share of clean recordings with any site at 5 %, on average over 40 baselines."""
    rates = []
    for baseline in range(40):
        rng = np.random.default_rng([baseline, groups])
        null = null_of(draws_of(rng, groups, dependence))
        smallest = [null.p_values(draw).min() for draw in draws_of(rng, 200, dependence)]
        rates.append(np.mean(np.array(smallest) <= 0.05))
    return float(np.mean(rates))


@pytest.mark.parametrize("dependence", [0.1, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("groups", [10, 20, 60])
def test_the_family_wise_rate_is_about_the_promised_one(groups: int, dependence: float) -> None:
    assert 0.02 <= rate_of(groups, dependence) <= 0.075


def test_an_outlying_site_has_a_small_p_value_and_the_others_do_not() -> None:
    rng = np.random.default_rng(3)
    null = null_of(draws_of(rng, 60, 0.3))
    statistic = OFFSETS.copy()
    statistic[4] += 8
    p = null.p_values(statistic)
    assert p[4] < 0.01
    assert np.delete(p, 4).min() > 0.5


def test_locations_of_sites_do_not_matter() -> None:
    rng = np.random.default_rng(4)
    values, new = draws_of(rng, 30, 0.3), draws_of(rng, 1, 0.3)[0]
    moved = rng.normal(size=SITES) * 10
    np.testing.assert_allclose(null_of(values + moved).p_values(new + moved), null_of(values).p_values(new), rtol=1e-6)


def test_what_was_not_measured_stays_unknown() -> None:
    rng = np.random.default_rng(5)
    values, new = draws_of(rng, 30, 0.3), draws_of(rng, 1, 0.3)[0]
    values[:, 2] = np.nan  # never in the baseline
    values[::2, 3] = np.nan
    new[7] = np.nan
    p = null_of(values).p_values(new)
    assert np.isnan(p[[2, 7]]).all()
    assert np.isfinite(np.delete(p, [2, 7])).all()


def test_a_baseline_that_never_had_the_statistic_judges_nothing() -> None:
    assert np.isnan(null_of(np.full((6, SITES), np.nan)).p_values(np.zeros(SITES))).all()


def test_largest_ignores_what_was_not_measured() -> None:
    values = np.array([[1.0, np.nan, -2.0], [np.nan, np.nan, np.nan], [-3.0, -4.0, np.nan]])
    np.testing.assert_array_equal(largest(values), [1.0, np.nan, -3.0])
