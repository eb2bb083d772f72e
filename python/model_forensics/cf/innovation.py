"""Innovations: what of a site's sketch its upstream sites do not explain.

A site's sketch is predicted from those of the few sites before it by ridge regression over benign tokens; what is left
is whitened with the covariance of tokens inside benign groups. A fault shows where it enters and not at what merely
passes it on. Named after the innovations of a Kalman filter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from model_forensics.cf.grouping import group_weights, weighted_mean
from model_forensics.cf.planes import Floats, Layout
from model_forensics.cf.sketch import SKETCH

NEAREST = 4  # sites before one that explain it, besides the latest block output (or embedding)
MOST_SOURCES = NEAREST + 1
STRENGTHS = (1.0, 5.0, 25.0, 125.0)  # of the ridge: as many groups' worth of tokens
FOLDS = 5
LEAST_SHRINKAGE = 0.1  # of the covariance towards its diagonal
LEAST_VARIANCE = 1e-9  # of a bucket, in units of the site's mean token variance; below it nothing varies
INTERCEPT = 1e3  # the regressor that does not vary: so large that the ridge hardly shrinks its coefficient
STREAMS = ("embed", "resid")


def upstream_sites(layout: Layout) -> tuple[tuple[int, ...], ...]:
    """Which earlier sites explain each site."""
    result: list[tuple[int, ...]] = []
    for site in range(len(layout)):
        near = range(max(0, site - NEAREST), site)
        stream = [earlier for earlier in range(site) if layout.sites[earlier].kind in STREAMS][-1:]
        result.append(tuple(sorted({*near, *stream})))
    return tuple(result)


@dataclass(frozen=True)
class Innovations:
    """Fitted maps from sketches to innovations, float32.

    Attributes:
        sources: [sites] the earlier sites that explain each one.
        centre: [sites, SKETCH] mean sketch of benign groups; of them, innovations average to zero.
        own: [sites, SKETCH, SKETCH] whitening of a site's own sketch.
        given: [sites, MOST_SOURCES, SKETCH, SKETCH] whitened prediction from each of its sources; 0 beyond them.
    """

    sources: tuple[tuple[int, ...], ...]
    centre: npt.NDArray[np.float32]
    own: npt.NDArray[np.float32]
    given: npt.NDArray[np.float32]

    def of(self, sketches: Floats) -> Floats:
        """[sites, SKETCH] innovations of mean sketches; NaN where the site itself has none."""
        centred = (sketches - self.centre).astype(np.float32)
        known = np.concatenate([np.nan_to_num(centred), np.zeros((1, SKETCH), dtype=np.float32)])  # last: no source
        innovations = (centred[:, None] @ self.own)[:, 0]
        for turn, source in enumerate(self._source_of_turn):
            innovations -= (known[source][:, None] @ self.given[:, turn])[:, 0]  # the maps are large: no copy of them
        return innovations.astype(np.float64)

    @cached_property
    def _source_of_turn(self) -> list[npt.NDArray[np.int64]]:
        """[sites] the first, second, … source of each; −1 where there are fewer."""
        most = max(map(len, self.sources), default=0)
        padded = [(*sources, *(-1,) * (most - len(sources))) for sources in self.sources]
        return list(np.array(padded, dtype=np.int64).reshape(len(padded), most).T)


def fit_innovations(
    rows: Sequence[npt.NDArray[np.float32]],
    groups: npt.NDArray[np.int64],
    means: Floats,
    layout: Layout,
) -> tuple[Innovations, Floats]:
    """Fit on benign sketches.

    Args:
        rows: [samples] of [tokens, sites, SKETCH], see `Sketcher.rows`.
        groups: [samples] group numbers from 0.
        means: [samples, sites, SKETCH] mean sketches.

    Returns:
        The maps fitted on all groups, and [samples, sites, SKETCH] innovations of each sample under maps, centre
        included, that never saw its group; NaN where no other group has the site.
    """
    group = np.repeat(groups, [len(part) for part in rows])
    centre, outside = _centres(means, groups)
    centre = np.nan_to_num(centre)
    stacked = np.concatenate(rows).astype(np.float64) - centre
    samples = means - outside[groups % FOLDS]
    grouped = _Groups.of(group)
    own = np.zeros((len(layout), SKETCH, SKETCH), dtype=np.float32)
    given = np.zeros((len(layout), MOST_SOURCES, SKETCH, SKETCH), dtype=np.float32)
    held_out = np.full(means.shape, np.nan)
    upstream = upstream_sites(layout)
    for site, sources in enumerate(upstream):
        own[site], prediction, held_out[:, site] = _fit_site(stacked, samples, grouped, groups, site, sources)
        given[site, : len(sources)] = prediction.reshape(len(sources), SKETCH, SKETCH)
    return Innovations(upstream, centre.astype(np.float32), own, given), held_out


class _Groups(NamedTuple):
    """Which groups tokens belong to.

    Attributes:
        numbers: [groups] ascending.
        position: [tokens] the place of each token's group among them.
        counts: [groups] tokens.
    """

    numbers: npt.NDArray[np.int64]
    position: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]

    @staticmethod
    def of(group: npt.NDArray[np.int64]) -> _Groups:
        return _Groups(*np.unique(group, return_inverse=True, return_counts=True))

    @property
    def folds(self) -> npt.NDArray[np.int64]:
        """[groups]"""
        return self.numbers % FOLDS

    @property
    def token_folds(self) -> npt.NDArray[np.int64]:
        """[tokens]"""
        return self.folds[self.position]

    def some(self, chosen: npt.NDArray[np.bool_]) -> _Groups:
        """Those of the chosen tokens."""
        return self if chosen.all() else _Groups.of(self.numbers[self.position[chosen]])

    def means(self, values: Floats) -> Floats:
        """[groups, columns] of [tokens, columns]."""
        total = np.zeros((self.counts.size, values.shape[1]))
        np.add.at(total, self.position, values)
        return total / self.counts[:, None]


def _centres(means: Floats, groups: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
    """[sites, SKETCH] mean sketch over groups, and [FOLDS, sites, SKETCH] over those outside each fold; NaN where none
    has the site.

    The same mean of the sketch and of its sources: so the innovations of the groups that a map was fitted on average to
    zero, whatever the map, and those of others say how far these lie from all of them.
    """
    weights = group_weights(groups)
    outside = [weighted_mean(means, weights * (groups % FOLDS != fold)) for fold in range(FOLDS)]
    return weighted_mean(means, weights), np.stack(outside)


def _fit_site(
    tokens: Floats,
    samples: Floats,
    token_groups: _Groups,
    sample_group: npt.NDArray[np.int64],
    site: int,
    sources: tuple[int, ...],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], Floats]:
    """Whitening, whitened prediction, and held-out innovations of one site."""
    here = np.isfinite(tokens[:, site, 0])
    target, groups = tokens[here, site], token_groups.some(here)
    near = np.array(sources, dtype=np.int64)
    design, of_samples = np.nan_to_num(tokens[np.ix_(here, near)]), np.nan_to_num(samples[:, near])
    columns = near.size * SKETCH  # spelled out: a site without tokens has no other dimension to tell it from
    # With fewer tokens than columns, what ridge regression finds is a combination of tokens; their products decide it.
    of_tokens = 0 < len(target) < columns
    if of_tokens:
        regressors, of_samples = _products(design, design) + INTERCEPT**2, _products(of_samples, design)
    else:
        regressors = np.column_stack([design.reshape(len(target), columns), np.full(len(target), INTERCEPT)])
        of_samples = np.column_stack([of_samples.reshape(len(samples), columns), np.zeros(len(samples))])
    maps = _predictions(regressors, target, groups, of_tokens=of_tokens)
    # A sample is whitened, too, by what its fold did not teach: values look smaller to a covariance that knows them.
    whitenings = _whitenings(target, regressors, maps, groups)
    own_fold = sample_group % FOLDS
    held_out = _times_own(samples[:, site] - _times_own(of_samples, maps, own_fold), whitenings, own_fold)
    prediction = maps[-1] @ whitenings[-1]
    prediction = (
        (design.transpose(1, 2, 0) @ prediction).reshape(columns, SKETCH) if of_tokens else prediction[:columns]
    )
    return whitenings[-1].astype(np.float32), prediction.astype(np.float32), held_out


def _products(one: Floats, other: Floats) -> Floats:
    """[tokens of one, tokens of the other] inner products of [tokens, sources, SKETCH], source by source: BLAS splits
    larger products among threads, which wait long for one another where other programs compute."""
    result: Floats = (one.transpose(1, 0, 2) @ other.transpose(1, 2, 0)).sum(axis=0)
    return result


def _times_own(rows: Floats, matrices: Floats, fold: npt.NDArray[np.int64]) -> Floats:
    """[rows, columns]: each row times the matrix of its fold."""
    result = np.empty((len(rows), matrices.shape[2]))
    for part in range(FOLDS):
        result[fold == part] = rows[fold == part] @ matrices[part]
    return result


def _predictions(design: Floats, target: Floats, groups: _Groups, *, of_tokens: bool = False) -> Floats:
    """[FOLDS + 1, columns, SKETCH] ridge coefficients from the groups outside each fold and, last, from all, of the
    strength that predicts held-out groups' means best.

    Args:
        of_tokens: `design` holds products of tokens, [tokens, tokens], and the coefficients are those of tokens (the
            dual form; Saunders, Gammerman and Vovk 1998, ICML).
    """
    count = groups.numbers.size
    if not design.shape[1] or count < 2:
        return np.zeros((FOLDS + 1, design.shape[1], SKETCH))
    fold = groups.token_folds
    if of_tokens:
        outside = (fold != np.arange(FOLDS)[:, None]).astype(np.float64)
        gram, outside_grams = design, design * outside[:, :, None] * outside[:, None, :]
        cross, outside_crosses = target, target * outside[:, :, None]
    else:
        grams = np.stack([design[fold == part].T @ design[fold == part] for part in range(FOLDS)])
        crosses = np.stack([design[fold == part].T @ target[fold == part] for part in range(FOLDS)])
        gram, cross = grams.sum(axis=0), crosses.sum(axis=0)
        outside_grams, outside_crosses = gram - grams, cross - crosses
    identity = np.eye(design.shape[1]) * len(target) / count
    means, means_of_target = _by_fold(groups.means(design), groups.folds), _by_fold(groups.means(target), groups.folds)
    errors = []
    for strength in STRENGTHS:
        # The matrix is symmetric: solved for the few means that are predicted, not for every column of the target.
        weights = np.linalg.solve(outside_grams + strength * identity, means.transpose(0, 2, 1))
        errors.append(float(((means_of_target - weights.transpose(0, 2, 1) @ outside_crosses) ** 2).sum()))
    ridge = STRENGTHS[int(np.argmin(errors))] * identity
    final = np.linalg.solve(gram + ridge, cross)
    by_fold = np.linalg.solve(outside_grams + ridge, outside_crosses)
    result: Floats = np.concatenate([by_fold, final[None]])
    return result


def _by_fold(rows: Floats, fold: npt.NDArray[np.int64]) -> Floats:
    """[FOLDS, most rows in a fold, columns]; zeros where a fold has fewer."""
    result = np.zeros((FOLDS, np.bincount(fold).max(), rows.shape[1]))
    for part in range(FOLDS):
        members = rows[fold == part]
        result[part, : len(members)] = members
    return result


def _scatter(residual: Floats, groups: _Groups) -> tuple[Floats, int]:
    """[SKETCH, SKETCH] sums of squares and products inside groups, and their degrees of freedom."""
    alone = len(residual) == groups.counts.size  # one token a group: only the groups' own spread is known
    inside = residual - (residual.mean(axis=0) if alone else groups.means(residual)[groups.position])
    return inside.T @ inside, len(residual) - (1 if alone else groups.counts.size)


def _whitenings(target: Floats, design: Floats, maps: Floats, groups: _Groups) -> Floats:
    """[FOLDS + 1, SKETCH, SKETCH]: inverse roots of the shrunk covariance, of tokens inside groups, of what each map
    leaves of the groups that it was fitted on.

    What others' maps leave of them would not do: those maps know the fold that this one is to know nothing of.
    """
    sums, free = np.zeros((FOLDS + 1, SKETCH, SKETCH)), np.zeros(FOLDS + 1)
    for fold in range(FOLDS + 1):
        members = groups.token_folds != fold
        if members.any():
            left = target[members] - design[members] @ maps[fold]
            sums[fold], free[fold] = _scatter(left, groups.some(members))
    free = np.maximum(free, 1)
    covariance = sums / free[:, None, None]
    shrinkage = np.minimum(1.0, LEAST_SHRINKAGE + SKETCH / (SKETCH + free))[:, None, None]
    variances = np.einsum("fkk->fk", covariance)
    floor = LEAST_VARIANCE * variances.mean(axis=1, keepdims=True)
    used = variances > floor  # not the buckets of narrow sites, nor channels that never change
    diagonal = np.where(used, variances, 1.0)[:, None, :] * np.eye(SKETCH)
    covariance = (1 - shrinkage) * covariance * (used[:, :, None] & used[:, None, :])
    root = np.linalg.cholesky(covariance + diagonal - (1 - shrinkage) * diagonal * used[:, None, :])
    inverse = np.linalg.inv(root).transpose(0, 2, 1)
    result: Floats = inverse * (used[:, :, None] & used[:, None, :])
    return result
