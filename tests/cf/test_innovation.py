"""Innovations: what a site adds to its upstream; held-out ones come from maps that never saw the group."""

from __future__ import annotations

import numpy as np
import pytest

from model_forensics.cf import innovation
from model_forensics.cf.innovation import FOLDS, Innovations, fit_innovations, upstream_sites
from model_forensics.cf.planes import Layout
from model_forensics.cf.sketch import SKETCH
from model_forensics.types import SiteInfo

WIDTH, GROUPS, TOKENS = 8, 40, 12
NAMES = ("embed", "L0.attn", "L0.mlp", "L1.attn", "L1.mlp")
LAYOUT = Layout(
    tuple(
        SiteInfo(name=name, module="m", kind=name.split(".")[-1], layer=None, features=WIDTH, dtype="float32")
        for name in NAMES
    )
)
MAPS = np.random.default_rng(7).normal(size=(len(NAMES), WIDTH, WIDTH)) / np.sqrt(WIDTH)


def chain(seed: int, tokens: int = TOKENS, noise: float = 0.5, damaged: int | None = None) -> np.ndarray:
    """[tokens, sites, SKETCH] of one group: each site a fixed map of the one before, and something of its own."""
    rng = np.random.default_rng([1, seed])
    rows = np.zeros((tokens, len(NAMES), SKETCH), dtype=np.float32)
    rows[:, 0, :WIDTH] = rng.normal(size=(tokens, WIDTH)) + 0.5 * rng.normal(size=WIDTH)
    for site in range(1, len(NAMES)):
        own = noise * (rng.normal(size=(tokens, WIDTH)) + 0.5 * rng.normal(size=WIDTH))
        matrix = MAPS[site] + 2 * np.eye(WIDTH) if site == damaged else MAPS[site]
        rows[:, site, :WIDTH] = rows[:, site - 1, :WIDTH] @ matrix + own
    return rows


def fit(rows: list[np.ndarray]) -> tuple[Innovations, np.ndarray]:
    means = np.stack([part.mean(axis=0) for part in rows]).astype(np.float64)
    return fit_innovations(rows, np.arange(len(rows)), means, LAYOUT)


@pytest.fixture(scope="module")
def fitted() -> Innovations:
    return fit([chain(seed) for seed in range(GROUPS)])[0]


def size(innovations: np.ndarray) -> np.ndarray:
    """[sites] root mean square over samples and buckets of [samples, sites, SKETCH]."""
    return np.sqrt((innovations[..., :WIDTH] ** 2).mean(axis=(0, 2)))


def test_sites_are_explained_by_the_four_before_and_the_latest_block_output() -> None:
    kinds = ["embed", *["attn", "mlp", "resid"] * 2, *["attn"] * 6]
    layout = Layout(
        tuple(
            SiteInfo(name=f"s{n}", module="m", kind=kind, layer=None, features=4, dtype="float32")
            for n, kind in enumerate(kinds)
        )
    )
    sources = upstream_sites(layout)
    assert sources[0] == ()
    assert sources[2] == (0, 1)
    assert sources[6] == (2, 3, 4, 5)
    assert sources[12] == (6, 8, 9, 10, 11)
    assert max(map(len, sources)) == innovation.MOST_SOURCES


def test_an_exact_linear_function_adds_next_to_nothing_and_its_source_keeps_its_own() -> None:
    rows = [chain(seed) for seed in range(GROUPS)]
    for part in rows:
        part[:, 2, :WIDTH] = part[:, 1, :WIDTH] @ MAPS[2]
    innovations, _ = fit(rows)
    tokens = np.concatenate(rows)
    # Whitening brings whatever is left to unit size, so what is left is looked at before it.
    unexplained = []
    for site in (1, 2):
        whitened = np.stack([innovations.of(row)[site, :WIDTH] for row in tokens[:60]])
        residual = whitened @ np.linalg.inv(innovations.own[site, :WIDTH, :WIDTH])
        unexplained.append(residual.var() / tokens[:60, site, :WIDTH].var())
    assert unexplained[0] > 0.1
    assert unexplained[1] < 0.005


def test_a_damaged_map_shows_at_its_own_site_and_not_downstream(fitted: Innovations) -> None:
    clean = np.stack([fitted.of(chain(seed).mean(axis=0)) for seed in range(100, 130)])
    damaged = np.stack([fitted.of(chain(seed, damaged=2).mean(axis=0)) for seed in range(100, 130)])
    raw = [chain(seed, damaged=2).mean(axis=0) - chain(seed).mean(axis=0) for seed in range(100, 130)]
    assert (size(np.stack(raw))[2:] > 0.5).all()  # the damage itself does go on downstream
    ratio = size(damaged) / size(clean)
    np.testing.assert_allclose(ratio[:2], 1.0, rtol=1e-6)
    assert ratio[2] > 2
    assert (ratio[3:] < 1.3).all()


def test_innovations_of_new_groups_are_as_large_as_held_out_ones() -> None:
    innovations, held_out = fit([chain(seed) for seed in range(GROUPS)])
    new = np.stack([innovations.of(chain(seed).mean(axis=0)) for seed in range(500, 540)])
    np.testing.assert_allclose(size(new), size(held_out), rtol=0.15)


@pytest.mark.parametrize("tokens", [3, TOKENS], ids=["fewer rows than columns", "more rows"])
def test_held_out_innovations_know_nothing_of_their_fold(tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither maps, nor centre, nor whitening. (Only the strength of the ridge is chosen once, on all folds.)"""
    monkeypatch.setattr(innovation, "STRENGTHS", (5.0,))
    rows = [chain(seed, tokens) for seed in range(GROUPS)]
    before = fit(rows)[1]
    changed = 13
    rows[changed] = 3 * chain(99, tokens) + 2
    after = fit(rows)[1]
    fold = np.arange(GROUPS) % FOLDS == changed % FOLDS
    same = fold & (np.arange(GROUPS) != changed)
    np.testing.assert_allclose(after[same], before[same], atol=1e-3)
    assert (np.abs(after[~fold] - before[~fold]).max(axis=(1, 2)) > 0.02).all()
    assert np.abs(after[changed] - before[changed]).max() > 1


def test_innovations_of_the_groups_that_were_fitted_average_to_zero() -> None:
    rows = [chain(seed, tokens=4 + seed % 9) for seed in range(GROUPS)]
    innovations, _ = fit(rows)
    found = np.stack([innovations.of(part.mean(axis=0)) for part in rows])
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-4)


@pytest.mark.parametrize("rows", [30, 200], ids=["fewer rows than columns", "more rows"])
def test_predictions_are_the_plain_ridge_solution(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    strength, columns, groups = 5.0, 130, 10
    monkeypatch.setattr(innovation, "STRENGTHS", (strength,))
    rng = np.random.default_rng(3)
    design, target = rng.normal(size=(rows, columns)), rng.normal(size=(rows, SKETCH))
    group = np.arange(rows) % groups
    maps = innovation._predictions(design, target, innovation._Groups.of(group))

    def plain(kept: np.ndarray) -> np.ndarray:
        x, y = design[kept], target[kept]
        return np.linalg.solve(x.T @ x + strength * rows / groups * np.eye(columns), x.T @ y)

    for fold in range(FOLDS + 1):  # no group is in the last: it has all of them
        np.testing.assert_allclose(maps[fold], plain(group % FOLDS != fold), atol=1e-8)


def test_combinations_of_tokens_are_the_same_solution() -> None:
    rng = np.random.default_rng(4)
    design, target = rng.normal(size=(30, 130)), rng.normal(size=(30, SKETCH))
    design[7] = design[8]  # products of tokens then have no inverse
    group = np.arange(30) % 10
    of_tokens = innovation._predictions(design @ design.T, target, innovation._Groups.of(group), of_tokens=True)
    np.testing.assert_allclose(
        design.T @ of_tokens, innovation._predictions(design, target, innovation._Groups.of(group)), atol=1e-9
    )


def test_of_is_the_plain_formula(fitted: Innovations) -> None:
    sketch = chain(50).mean(axis=0).astype(np.float64)
    centred = sketch - fitted.centre
    for site, sources in enumerate(fitted.sources):
        expected = centred[site] @ fitted.own[site]
        for turn, source in enumerate(sources):
            expected = expected - centred[source] @ fitted.given[site, turn]
        np.testing.assert_allclose(fitted.of(sketch)[site], expected, atol=1e-3)


def test_tokens_inside_groups_have_about_unit_innovations(fitted: Innovations) -> None:
    within = []
    for seed in range(600, 620):
        tokens = np.stack([fitted.of(row) for row in chain(seed)])[..., :WIDTH]
        within.append((tokens - tokens.mean(axis=0)) * np.sqrt(TOKENS / (TOKENS - 1)))
    np.testing.assert_allclose(np.concatenate(within).std(axis=(0, 2)), 1.0, atol=0.25)


def test_groups_of_a_single_token_are_enough() -> None:
    innovations, held_out = fit([chain(seed, tokens=1) for seed in range(GROUPS)])
    assert np.isfinite(held_out).all()
    assert (size(held_out) > 0.3).all()
    assert (size(held_out) < 3).all()
    assert np.isfinite(innovations.of(chain(70).mean(axis=0))).all()


@pytest.mark.parametrize("groups", [1, 2])
def test_very_few_groups_give_finite_numbers(groups: int) -> None:
    innovations, held_out = fit([chain(seed) for seed in range(groups)])
    assert np.isfinite(held_out).all() == (groups > 1)  # one group has no others that it could depart from
    assert np.isfinite(innovations.of(chain(70).mean(axis=0))).all()


def test_what_is_constant_innovates_nothing() -> None:
    rows = [chain(seed) for seed in range(GROUPS)]
    for part in rows:
        part[:, 1] = 0.0  # a whole site
        part[:, 2, 0] = 3.0  # a bucket
    innovations, held_out = fit(rows)
    for found in (held_out, innovations.of(chain(70).mean(axis=0))[None]):
        assert not found[:, 1].any()
        assert not found[:, 2, 0].any()
        assert np.isfinite(found).all()
    assert (size(held_out)[[0, 2, 3, 4]] > 0.1).all()


def test_sites_that_were_not_recorded_stay_unknown_and_disturb_no_other() -> None:
    rows = [chain(seed) for seed in range(GROUPS)]
    for part in rows:
        part[:, 1] = np.nan
    rows[3][:, 4] = np.nan
    innovations, held_out = fit(rows)
    assert np.isnan(held_out[:, 1]).all()
    assert np.isnan(held_out[3, 4]).all()
    assert np.isfinite(np.delete(held_out[:, [0, 2, 3]], 1, axis=0)).all()
    assert np.isfinite(held_out[4:, 4]).all()
    new = chain(70).mean(axis=0).astype(np.float64)
    new[[1, 3]] = np.nan
    found = innovations.of(new)
    assert np.isnan(found[[1, 3]]).all()
    assert np.isfinite(found[[0, 2, 4]]).all()
