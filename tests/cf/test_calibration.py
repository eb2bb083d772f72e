"""A held-out group's scores spread like those of a new recording."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from model_forensics.cf.calibration import (
    EXPECTED,
    FIRST_TOKEN_LIMIT,
    PRIOR_GROUPS,
    SEEN_ONCE,
    _held_out,
    _without_own_pull,
    calibrate,
    q_values,
)
from model_forensics.cf.features.table import COLUMN, COLUMNS
from model_forensics.cf.fitting import assign_folds
from model_forensics.cf.standardise import refer

SITES = 400
CORRECTED, LEFT_ALONE = COLUMN["later.magnitude"], COLUMN["later.presence"]


def cross_fitted(values: np.ndarray) -> np.ndarray:
    """[groups, sites] departures of groups from the mean of the others outside their fold: what channel models do."""
    folds = assign_folds(list(range(len(values))))
    outside = [values[folds != fold].mean(axis=0) for fold in folds]
    return values - np.stack(outside)


def tables_of(values: np.ndarray) -> np.ndarray:
    """The same departures in all columns, those that are corrected and those that are not."""
    return np.repeat(values[:, :, None], len(COLUMNS), axis=2)


@pytest.mark.parametrize("groups", [10, 25])
def test_scores_of_held_out_groups_spread_like_those_of_new_ones(groups: int) -> None:
    rng = np.random.default_rng(groups)
    held_out, new = [], []
    families, floors = np.zeros(SITES, dtype=np.int64), np.full((SITES, len(COLUMNS)), 1e-6)
    for _ in range(3):
        values = rng.normal(size=(groups, SITES))
        tables, tokens = tables_of(cross_fitted(values)), np.full((groups, SITES), 20.0)
        held_out.append(_held_out(tables, tokens, np.arange(groups), families, floors))
        others = tables_of(rng.normal(size=(50, SITES)) - values.mean(axis=0))
        reference = refer(tables, tokens, np.arange(groups), families, floors)
        new.append(reference.standardise(others, np.full((50, SITES), 20.0)))
    ratio = np.concatenate(held_out).var(axis=(0, 1)) / np.concatenate(new).var(axis=(0, 1))
    # Linear departures are pulled by the whole share; the part of it that is not taken back is left in the fold's mean,
    # which holds 1 / (groups in a fold) of the variance.
    fold = groups // 5
    taken = fold / (groups + PRIOR_GROUPS)
    assert ratio[CORRECTED] == pytest.approx(1 + (((1 - taken) / 0.8) ** 2 - 1) / fold, abs=0.08)
    assert ratio[LEFT_ALONE] == pytest.approx(1 + (0.8**-2 - 1) / fold, abs=0.08)
    assert ratio[LEFT_ALONE] > ratio[CORRECTED] + 0.05


@pytest.mark.parametrize(("samples", "limit"), [(9, FIRST_TOKEN_LIMIT), (10, np.inf)])
def test_few_first_tokens_say_no_more_than_their_limit(samples: int, limit: float) -> None:
    rng = np.random.default_rng(2)
    tables, tokens = rng.normal(size=(samples, SITES, len(COLUMNS))), np.full((samples, SITES), 20.0)
    families, floors = np.zeros(SITES, dtype=np.int64), np.full((SITES, len(COLUMNS)), 1e-6)
    names = [f"g{n}" for n in range(samples)]
    found = calibrate(tables, tokens, np.zeros((samples, SITES, 4)), names, families, floors, ("arithmetic",))
    far = found.judge.normal_scores(np.full((1, SITES, len(COLUMNS)), 1e6), tokens[:1])
    once = [COLUMN[f"first.{name}"] for name in SEEN_ONCE]
    assert (far[..., once] == limit).all() if np.isfinite(limit) else (far[..., once] > FIRST_TOKEN_LIMIT).all()
    assert (np.delete(far, once, axis=-1) > FIRST_TOKEN_LIMIT).all()
    assert (np.abs(found.held_out.scores[..., once]) <= limit).all()


def test_only_departures_from_what_the_models_expect_are_corrected() -> None:
    scores = np.random.default_rng(1).normal(size=(4, 3, len(COLUMNS)))
    weights = np.array([1.0, 0.5, 0.5, 1.0])  # the two in the middle are one group's
    found = _without_own_pull(scores, weights, 0.25)
    mean = (weights[:, None, None] * scores).sum(axis=0) / 3
    expected = [COLUMN[f"{kind}.{name}"] for kind in ("first", "later") for name in EXPECTED]
    others = np.setdiff1d(np.arange(len(COLUMNS)), expected)
    np.testing.assert_allclose(found[..., expected], (scores - 0.25 * mean)[..., expected])
    np.testing.assert_array_equal(found[..., others], scores[..., others])


def test_unmeasured_scores_stay_unknown_and_pull_nothing() -> None:
    scores = np.ones((3, 2, len(COLUMNS)))
    scores[0, 0] = np.nan
    found = _without_own_pull(scores, np.ones(3), 0.5)
    assert np.isnan(found[0, 0]).all()
    assert found[1, 0, CORRECTED] == pytest.approx(0.5)


@pytest.mark.parametrize("count", [0, 1, 2, 437])
def test_q_values_are_those_of_scipy(count: int) -> None:
    p = np.random.default_rng(count).uniform(0, 1, count) ** 3
    p[count // 2 :: 7] = p[:1]  # ties
    with_gaps = np.concatenate([[np.nan], p, [np.nan]])
    for got, method in zip(q_values(with_gaps), ("bh", "by"), strict=True):
        assert np.isnan(got[[0, -1]]).all()
        expected = stats.false_discovery_control(p, method=method) if count else p
        np.testing.assert_allclose(got[1:-1], expected, rtol=1e-14)
