"""Conformal shares and the extrapolated tail beyond them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_forensics.cf.nulls import Null, Tail

PRIOR = (2.0, 0.5)


def tail_of(count: int, seed: int = 0, kind: str = "pareto") -> Tail:
    values = np.random.default_rng(seed).exponential(size=(count, 1)) + 1
    if kind == "pareto":
        return Tail.pareto(values, np.ones(count), count, 0.5)
    return Tail.exponential(values, np.ones(count), count, 0.5, PRIOR)


@given(values=st.lists(st.integers(0, 9), min_size=1, max_size=30), observed=st.integers(-1, 10))
def test_a_p_value_is_the_share_at_least_as_large_with_the_observed_one(values: list[int], observed: int) -> None:
    null = Null.of(np.array(values, dtype=float)[:, None], np.ones(len(values)))
    expected = (1 + sum(value >= observed for value in values)) / (len(values) + 1)
    assert null.p_values(np.array([float(observed)]))[0] == pytest.approx(expected)
    assert null.floor == pytest.approx(1 / (len(values) + 1))


def test_groups_count_alike_however_many_samples_they_have() -> None:
    once = Null.of(np.array([[1.0], [2.0], [3.0]]), np.ones(3))
    repeated = Null.of(np.array([[1.0], [2.0], [2.0], [2.0], [3.0]]), np.array([1, 1 / 3, 1 / 3, 1 / 3, 1]))
    observed = np.array([0.5, 1.5, 2.0, 2.5, 9.0])
    np.testing.assert_allclose(repeated.p_values(observed), once.p_values(observed))


def test_unmeasured_values_neither_count_nor_get_a_p_value() -> None:
    null = Null.of(np.array([[1.0, np.nan], [2.0, 5.0]]), np.ones(2))
    assert null.values.size == 3
    assert np.isnan(null.p_values(np.array([np.nan]))[0])
    assert np.isnan(tail_of(20).p_values(np.array([np.nan]))[0])


@pytest.mark.parametrize("kind", ["pareto", "exponential"])
@given(count=st.integers(2, 60), seed=st.integers(0, 1000))
def test_the_tail_falls_without_a_floor(kind: str, count: int, seed: int) -> None:
    tail = tail_of(count, seed, kind)
    observed = np.linspace(0, 5, 60) + tail.threshold
    p = tail.p_values(observed)
    assert (np.diff(p) < 0).all()
    assert (p > 0).all()
    assert p[0] == pytest.approx(tail.share)
    assert tail.p_values(np.array([1e6]))[0] < tail.null.floor


def test_below_the_threshold_the_shares_hold() -> None:
    tail = tail_of(40)
    observed = np.linspace(1, tail.threshold, 20)
    np.testing.assert_array_equal(tail.p_values(observed), tail.null.p_values(observed))


def test_few_groups_give_a_heavier_tail() -> None:
    far = np.array([30.0])
    few = np.mean([tail_of(6, seed).p_values(far)[0] for seed in range(50)])
    many = np.mean([tail_of(200, seed).p_values(far)[0] for seed in range(50)])
    assert few > 10 * many


def test_an_exponential_tail_is_that_of_an_exponential() -> None:
    """P(value > t) = exp(1 − t) here; what 20,000 values teach is nearly the truth."""
    observed = np.array([4.0, 8.0, 12.0])
    np.testing.assert_allclose(tail_of(20_000, 0, "exponential").p_values(observed), np.exp(1 - observed), rtol=0.2)


def test_an_exponential_tail_does_not_depend_on_where_zero_is() -> None:
    values = np.random.default_rng(1).normal(size=(40, 1))
    observed = np.linspace(-1, 6, 30)
    moved = Tail.exponential(values - 50, np.ones(40), 40, 0.5, PRIOR).p_values(observed - 50)
    np.testing.assert_allclose(moved, Tail.exponential(values, np.ones(40), 40, 0.5, PRIOR).p_values(observed))
