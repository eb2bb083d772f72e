"""Standardised departures from benign groups, with variances moderated across similar sites."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import digamma, polygamma

from model_forensics.cf.grouping import group_weights
from model_forensics.cf.planes import Floats

Booleans = npt.NDArray[np.bool_]
MAX_PRIOR_DEGREES = 100.0
UNCHANGING = 5.0  # floors that a column counts as spreading by when its own spread is below one
SPREAD_PRIOR = 0.5  # squared nepers a site: about one group whose length is an octave away from the others'
LARGEST_SQUARE = 9.0  # standardised
SCORING_STEPS = 4
STEEPEST = 2.0  # octaves of variance per octave of tokens
EQUAL_LENGTHS = 1e-9  # squared octaves


@dataclass(frozen=True)
class Reference:
    """What benign groups look like: everything [sites, columns] float64, NaN where too few groups measured the column.

    Attributes:
        mean: mean over groups.
        variance: moderated variance of one sample.
        degrees: of the moderated variance.
        groups: groups that measured the column.
        token_slope, token_centre: [columns], [sites]: expected change of a column per octave of tokens, around a mean.
        token_spread: [columns], by how many octaves a column's variance changes per octave of tokens: means over few
            tokens spread more.
        token_leverage: [sites], 1 / Σ (octaves - mean)² over groups; 0 where all samples are equally long.
    """

    mean: Floats
    variance: Floats
    degrees: Floats
    groups: Floats
    token_slope: Floats
    token_spread: Floats
    token_centre: Floats
    token_leverage: Floats

    def standardise(self, table: Floats, tokens: Floats) -> Floats:
        """Normal scores of a table [..., sites, columns] with tokens [..., sites]; NaN stays NaN.

        The predictive t is brought to the normal scale by Wallace's approximation (Wallace 1959, Ann. Math. Stat. 30).
        """
        octaves = np.log2(np.maximum(tokens, 1)) - self.token_centre
        value = table - self.mean - octaves[..., None] * self.token_slope
        # Lengths that the baseline hardly saw are predicted less surely, as in any regression.
        leverage = 1 / self.groups + (octaves**2 * self.token_leverage)[..., None]
        t = value / np.sqrt(self.variance * np.exp2(octaves[..., None] * self.token_spread) * (1 + leverage))
        df = self.degrees
        normal: Floats = np.sign(t) * (8 * df + 1) / (8 * df + 3) * np.sqrt(df * np.log1p(t**2 / df))
        return normal


def refer(
    tables: Floats, tokens: Floats, groups: npt.NDArray[np.int64], families: npt.NDArray[np.int64], floors: Floats
) -> Reference:
    """Fit a reference.

    Args:
        tables: [samples, sites, columns], NaN where not measured.
        tokens: [samples, sites] tokens.
        groups: [samples] group numbers.
        families: [sites] which sites share a variance prior.
        floors: [sites, columns] smallest standard deviation that is credible.
    """
    weight = group_weights(groups)[:, None, None]
    measured = np.isfinite(tables)
    total = (weight * measured).sum(axis=0)
    filled = np.where(measured, tables, 0.0)
    octaves = np.log2(np.maximum(tokens, 1))
    safe = np.maximum(total, 1e-12)
    centre = (weight[..., 0] * octaves).sum(axis=0) / weight.sum()
    spread = (weight[..., 0] * (octaves - centre) ** 2).sum(axis=0)
    mean = (weight * filled).sum(axis=0) / safe
    slope = _token_slope(tables, mean, octaves, weight)
    residual = np.where(measured, tables - mean - (octaves - centre)[..., None] * slope, 0.0)
    seen = groups_seen(measured, groups)
    free = np.maximum(seen - 1, 0)
    variance = (weight * residual**2).sum(axis=0) / safe
    changes = _token_spread(residual, variance, measured, octaves - centre, weight)
    residual = residual * np.exp2(-0.5 * (octaves - centre)[..., None] * changes)
    variance = (weight * residual**2).sum(axis=0) / safe * np.where(free > 0, seen / np.maximum(free, 1), np.nan)
    # A column that never changes says nothing about how much it may: small departures of it are not to be believed.
    variance = np.where(variance < floors**2, (UNCHANGING * floors) ** 2, variance)
    moderated, degrees = moderate(variance, free, families)
    enough = free > 0
    nan = np.nan
    return Reference(
        np.where(enough, mean, nan),
        np.where(enough, moderated, nan),
        np.where(enough, degrees, nan),
        np.where(enough, seen, nan),
        slope,
        changes,
        centre,
        np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > EQUAL_LENGTHS),
    )


def groups_seen(measured: Booleans, groups: npt.NDArray[np.int64]) -> Floats:
    """[sites, columns] in how many groups something was measured, from [samples, sites, columns]."""
    seen = np.zeros(measured.shape[1:])
    for group in np.unique(groups):
        seen += measured[groups == group].any(axis=0)
    return seen


def _token_slope(tables: Floats, mean: Floats, octaves: Floats, weight: Floats) -> Floats:
    """[columns] slope on log2(tokens), one for all sites (each in units of its own spread would cost a second pass)."""
    centred = octaves - octaves.mean(axis=0)
    spread = (weight[..., 0] * centred**2).sum()
    if spread < 1e-9:
        return np.zeros(tables.shape[-1])
    deviation = np.where(np.isfinite(tables), tables - mean, 0.0)
    # The pseudo-observation shrinks the slope to none where lengths hardly vary.
    slope: Floats = (weight * deviation * centred[..., None]).sum(axis=(0, 1)) / (spread + 0.1 * tables.shape[1])
    return slope


def _token_spread(residual: Floats, variance: Floats, measured: Booleans, octaves: Floats, weight: Floats) -> Floats:
    """[columns] slope of log2 variance on log2(tokens), one for all sites, by Fisher scoring of a normal likelihood.

    Squares are limited, so that single outliers teach little; pseudo-observations shrink the slope to none.
    """
    known = measured & (variance > 0)
    squares = np.divide(residual**2, variance, out=np.ones(residual.shape), where=known).clip(max=LARGEST_SQUARE)
    lever = (weight * known) * (octaves[..., None] * np.log(2))
    information = (lever * (octaves[..., None] * np.log(2))).sum(axis=(0, 1)) + SPREAD_PRIOR * residual.shape[1]
    slope = np.zeros(residual.shape[-1])
    for _ in range(SCORING_STEPS):
        expected = np.exp2(octaves[..., None] * slope)
        level = (weight * known * squares / expected).sum(axis=(0, 1)) / np.maximum(
            (weight * known).sum(axis=(0, 1)), 1e-12
        )
        slope = (
            slope
            + (
                (lever * (squares / (expected * np.maximum(level, 1e-12)) - 1)).sum(axis=(0, 1))
                - SPREAD_PRIOR * residual.shape[1] * slope
            )
            / information
        )
        slope = slope.clip(-STEEPEST, STEEPEST)
    return slope


def moderate(variance: Floats, free: Floats, families: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Variances shrunk towards those of similar sites (Smyth 2004, Stat. Appl. Genet. Mol. Biol. 3:3, §6).

    Each family has its own prior mean; the prior's degrees of freedom are estimated over all sites of a column.

    Returns:
        (moderated variance, its degrees of freedom), both [sites, columns].
    """
    usable = (free > 0) & (variance > 0)
    d = np.where(usable, free, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        level = np.where(usable, np.log(np.where(usable, variance, 1.0)) - digamma(d / 2) + np.log(d / 2), np.nan)
    prior = np.full(level.shape, np.nan)
    spread = np.zeros(level.shape[1])
    count = np.zeros(level.shape[1])
    for family in np.unique(families):
        rows = families == family
        inside = usable[rows]
        members = inside.sum(axis=0)
        centre = np.where(inside, level[rows], 0.0).sum(axis=0) / np.maximum(members, 1)
        prior[rows] = centre
        spread += np.where(inside, (level[rows] - centre) ** 2, 0.0).sum(axis=0)
        count += np.maximum(members - 1, 0)
    noise = np.where(usable, polygamma(1, d / 2), 0.0).sum(axis=0) / np.maximum(usable.sum(axis=0), 1)
    excess = spread / np.maximum(count, 1) - noise
    degrees = np.where(count > 0, 2 * inverse_trigamma(np.maximum(excess, 1e-4)), 0.0).clip(0, MAX_PRIOR_DEGREES)
    with np.errstate(invalid="ignore", divide="ignore"):
        offset = np.where(
            degrees > 0, digamma(np.maximum(degrees, 1e-6) / 2) - np.log(np.maximum(degrees, 1e-6) / 2), 0
        )
    prior_variance = np.exp(prior + offset)
    moderated = (degrees * np.nan_to_num(prior_variance) + free * variance) / np.maximum(degrees + free, 1e-12)
    return np.where(usable, moderated, variance), degrees + free


def inverse_trigamma(value: Floats) -> Floats:
    """Solve trigamma(x) = value by Newton's method on 1/trigamma (Smyth 2004, appendix)."""
    x = 0.5 + 1 / value
    for _ in range(20):
        trigamma = polygamma(1, x)
        x = x + trigamma * (1 - trigamma / value) / polygamma(2, x)
    result: Floats = x
    return result


def site_families(kinds: Sequence[object]) -> npt.NDArray[np.int64]:
    """Number the distinct names in order."""
    numbers = {name: position for position, name in enumerate(dict.fromkeys(kinds))}
    return np.array([numbers[name] for name in kinds], dtype=np.int64)
