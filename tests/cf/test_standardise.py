"""The dependence of spread on length."""

from __future__ import annotations

import numpy as np
import pytest

from model_forensics.cf.standardise import Reference, _token_spread, refer

GROUPS, SITES = 60, 20


def reference_of(tables: np.ndarray, tokens: np.ndarray) -> Reference:
    """One sample a group, one family of sites, no floor that matters."""
    families = np.zeros(tables.shape[1], dtype=np.int64)
    return refer(tables, tokens, np.arange(len(tables)), families, np.full(tables.shape[1:], 1e-6))


def sample(rng: np.random.Generator, tokens: np.ndarray) -> np.ndarray:
    """[samples, sites, 2]: a mean over tokens, and a number that does not depend on them."""
    table = rng.normal(size=(len(tokens), SITES, 2))
    table[..., 0] *= np.sqrt(32 / tokens)
    return table


def lengths(rng: np.random.Generator, samples: int) -> np.ndarray:
    """[samples, sites] 8 to 128 tokens."""
    tokens = np.round(np.exp2(rng.uniform(3, 7, samples)))
    return np.repeat(tokens[:, None], SITES, axis=1)


@pytest.fixture(scope="module")
def reference() -> Reference:
    rng = np.random.default_rng(0)
    tokens = lengths(rng, GROUPS)
    return reference_of(sample(rng, tokens), tokens)


def test_the_spread_of_means_over_tokens_falls_with_their_number(reference: Reference) -> None:
    assert reference.token_spread[0] == pytest.approx(-1, abs=0.2)


def test_what_does_not_depend_on_length_has_no_slope(reference: Reference) -> None:
    assert reference.token_spread[1] == pytest.approx(0, abs=0.15)


@pytest.mark.parametrize("tokens", [8.0, 32.0, 128.0])
def test_scores_spread_alike_at_all_lengths(reference: Reference, tokens: float) -> None:
    rng = np.random.default_rng(1)
    counts = np.full((200, SITES), tokens)
    normal = reference.standardise(sample(rng, counts), counts)
    np.testing.assert_allclose(normal.std(axis=(0, 1)), 1.0, atol=0.15)


def test_equal_lengths_teach_no_slope() -> None:
    rng = np.random.default_rng(2)
    tokens = np.full((GROUPS, SITES), 32.0)
    reference = reference_of(sample(rng, tokens), tokens)
    assert not reference.token_spread.any()
    assert not reference.token_slope.any()


def test_one_outlier_teaches_little() -> None:
    rng = np.random.default_rng(3)
    tokens = lengths(rng, GROUPS)
    residual = sample(rng, tokens)
    variance, octaves = (residual**2).mean(axis=0), np.log2(tokens / 32)

    def slope() -> np.ndarray:
        return _token_spread(residual, variance, np.ones(residual.shape, dtype=bool), octaves, np.ones((GROUPS, 1, 1)))

    clean = slope()
    residual[int(np.argmax(tokens[:, 0])), 0] = 1000
    assert np.abs(slope() - clean).max() < 0.1


def test_what_was_not_measured_is_left_out() -> None:
    rng = np.random.default_rng(4)
    tokens = lengths(rng, GROUPS)
    tables = sample(rng, tokens)
    part = reference_of(tables[:, ::2], tokens[:, ::2]).token_spread
    tables[:, 1::2] = np.nan
    np.testing.assert_allclose(reference_of(tables, tokens).token_spread, part, atol=0.02)
