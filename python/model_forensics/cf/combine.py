"""One statistic per site from its normal scores, alone and given the sites upstream."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model_forensics.cf.planes import Floats

CLIP = 4.0  # scores beyond this teach neither correlations nor upstream coefficients
RIDGE = 5.0
SHRINKAGE = 0.2  # of the correlation matrix towards the identity
UPSTREAM_STEPS = 4
ROWS_AT_ONCE = 64  # of a product of tall matrices
NORMALISE_AT = 0.95  # quantile at which both parts of the statistic are made comparable


@dataclass(frozen=True)
class Upstream:
    """Ridge regression of a site's scores on those of sites before it, coefficients shared by similar sites.

    Attributes:
        coefficients: [sites, columns, UPSTREAM_STEPS + 1].
        spread: [columns] standard deviation of the residuals.
    """

    coefficients: Floats
    spread: Floats

    def residuals(self, scores: Floats) -> Floats:
        """[..., sites, columns] standardised; NaN where the site itself has no score."""
        predicted = np.einsum("...scp,scp->...sc", _upstream(scores), self.coefficients)
        result: Floats = (scores - predicted) / self.spread
        return result


def _upstream(scores: Floats) -> Floats:
    """[..., sites, columns, steps + 1]: the scores 1 … 4 sites earlier and the mean over all earlier sites."""
    clipped = np.clip(np.nan_to_num(scores), -CLIP, CLIP)
    sites = scores.shape[-2]
    design = np.zeros((*scores.shape, UPSTREAM_STEPS + 1))
    for step in range(1, min(UPSTREAM_STEPS, sites - 1) + 1):
        design[..., step:, :, step - 1] = clipped[..., :-step, :]
    before = np.cumsum(clipped, axis=-2)[..., :-1, :]
    design[..., 1:, :, -1] = before / np.arange(1, sites)[:, None]
    return design


def fit_upstream(scores: Floats, families: npt.NDArray[np.int64]) -> Upstream:
    """Fit on benign scores [samples, sites, columns]."""
    design = _upstream(scores)
    target = np.clip(np.nan_to_num(scores), -CLIP, CLIP)
    _, sites, columns = scores.shape
    coefficients = np.zeros((sites, columns, UPSTREAM_STEPS + 1))
    identity = RIDGE * np.eye(UPSTREAM_STEPS + 1)
    for family in np.unique(families) if columns else ():
        rows = families == family
        x = np.moveaxis(design[:, rows], 2, 0).reshape(columns, -1, UPSTREAM_STEPS + 1)
        y = np.moveaxis(target[:, rows], 2, 0).reshape(columns, -1, 1)
        transposed = x.transpose(0, 2, 1)
        solved = np.linalg.solve(transposed @ x + identity, transposed @ y)[..., 0]
        coefficients[rows] = solved
    residual = target - np.einsum("nscp,scp->nsc", design, coefficients)
    measured = np.isfinite(scores)
    seen = np.maximum(measured.sum(axis=(0, 1)), 1)
    spread = np.sqrt((np.where(measured, residual, 0.0) ** 2).sum(axis=(0, 1)) / seen)
    return Upstream(coefficients, np.maximum(spread, 0.2))


@dataclass(frozen=True)
class Statistic:
    """Half Mahalanobis length, half largest score: the first sees faults that touch everything a little, the second
    those
    that touch one measurement a lot. Each is divided by its benign 95 % quantile.

    Attributes:
        precision: [columns, columns], inverse of the shrunk benign correlation matrix, pooled over sites.
        length_at, largest_at: the quantiles.
    """

    precision: Floats
    length_at: float
    largest_at: float

    def __call__(self, scores: Floats) -> Floats:
        """[..., sites] ≥ 0 from [..., sites, columns]; NaN where a site has no score at all."""
        length, largest = _parts(scores, self.precision)
        value = 0.5 * (length / self.length_at + largest / self.largest_at)
        result: Floats = np.where(np.isfinite(scores).any(axis=-1), value, np.nan)
        return result


def _parts(scores: Floats, precision: Floats) -> tuple[Floats, Floats]:
    filled = np.nan_to_num(scores)
    length = np.sqrt(np.maximum((_times(filled, precision) * filled).sum(axis=-1), 0.0))
    return length, np.abs(filled).max(axis=-1, initial=0.0)


def fit_statistic(scores: Floats) -> Statistic:
    """Fit on benign scores [samples, sites, columns]."""
    columns = scores.shape[-1]
    flat = scores.reshape(scores.shape[0] * scores.shape[1], columns)
    flat = np.clip(np.nan_to_num(flat[np.isfinite(flat).any(axis=1)]), -CLIP, CLIP)
    scale = np.sqrt((flat**2).mean(axis=0)) if flat.size else np.zeros(columns)
    normal = np.divide(flat, scale, out=np.zeros_like(flat), where=scale > 0)
    correlation = _gram(normal) / max(len(flat), 1)
    np.fill_diagonal(correlation, 1.0)
    precision = np.linalg.inv((1 - SHRINKAGE) * correlation + SHRINKAGE * np.eye(columns)).astype(np.float64)
    length, largest = _parts(flat, precision)
    return Statistic(precision, _quantile(length), _quantile(largest))


def _times(rows: Floats, matrix: Floats) -> Floats:
    """[..., rows, columns] · matrix, a few rows at a time, for the same reason as in `_gram`."""
    starts = range(0, rows.shape[-2], ROWS_AT_ONCE)
    parts = [rows[..., start : start + ROWS_AT_ONCE, :] @ matrix for start in starts]
    return np.concatenate(parts, axis=-2) if len(parts) > 1 else rows @ matrix


def _gram(rows: Floats) -> Floats:
    """rowsᵀ · rows, a few rows at a time: a tall product is split among threads, which wait long for one another where
    other programs compute."""
    whole = len(rows) // ROWS_AT_ONCE * ROWS_AT_ONCE
    parts = rows[:whole].reshape(whole // ROWS_AT_ONCE, ROWS_AT_ONCE, rows.shape[1])
    rest = rows[whole:]
    result: Floats = (parts.transpose(0, 2, 1) @ parts).sum(axis=0) + rest.T @ rest
    return result


def _quantile(values: Floats) -> float:
    level = float(np.quantile(values, NORMALISE_AT)) if values.size else 0.0
    return level if level > 0 else 1.0
