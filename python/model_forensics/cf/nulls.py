"""Benign values of a statistic, as p-values: their own shares, or with an extrapolated tail."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from model_forensics.cf.planes import Floats

LEAST_LENGTH = 1e-9
LEAST_EXCESS = 0.02  # mean excess of a tail whose values are all alike


@dataclass(frozen=True)
class Null:
    """Benign values of one statistic.

    Attributes:
        values: [n] ascending.
        tail_weight: [n + 1], weight of values ≥ values[i]; the last is 0. Weights are in units of (group, site) pairs.
        unit: weight of one value that the observed one counts as.
    """

    values: Floats
    tail_weight: Floats
    unit: float

    @staticmethod
    def of(values: Floats, weights: Floats) -> Null:
        """From [samples, sites] values (NaN: not measured) and [samples] weights."""
        spread = np.broadcast_to(weights[:, None], values.shape)
        keep = np.isfinite(values)
        flat, weight = values[keep], spread[keep]
        order = np.argsort(flat, kind="stable")
        tail = np.append(np.cumsum(weight[order][::-1])[::-1], 0.0)
        return Null(flat[order], tail, 1.0)

    @property
    def floor(self) -> float:
        return float(self.unit / (self.tail_weight[0] + self.unit))

    def p_values(self, observed: Floats) -> Floats:
        """Share of benign values at least as large, the observed one included; NaN stays NaN."""
        position = np.searchsorted(self.values, observed, side="left")
        p = (self.unit + self.tail_weight[np.minimum(position, self.values.size)]) / (self.unit + self.tail_weight[0])
        return np.where(np.isfinite(observed), p, np.nan)


@dataclass(frozen=True)
class Tail:
    """Benign values of a statistic with an extrapolated upper tail.

    Below `threshold` p-values are the null's own. Above it the excess is taken as exponential: that of the logarithm
    where the statistic is a positive length (a Pareto tail; Hill 1975, Ann. Stat. 3:1163), that of the statistic itself
    where it is standardised. The unknown rate is integrated out: p = share · (1 + excess / (k · mean))^(−k), where
    `k` counts at most one exceedance a group, because sites of one run are dependent: few groups give a heavy tail.
    """

    null: Null
    threshold: float
    share: float
    mean: float
    degrees: float
    logarithmic: bool

    @staticmethod
    def pareto(values: Floats, weights: Floats, groups: int, share: float) -> Tail:
        """From [samples, sites] positive values, [samples] weights and the share of values that count as the tail."""
        return _tail(Null.of(values, weights), groups, share, logarithmic=True, prior=(0.0, 0.0))

    @staticmethod
    def exponential(values: Floats, weights: Floats, groups: int, share: float, prior: tuple[float, float]) -> Tail:
        """The same from standardised values.

        Args:
            prior: exceedances that are taken as seen before any, and their mean excess: few groups teach a tail
                little, and by chance nothing.
        """
        return _tail(Null.of(values, weights), groups, share, logarithmic=False, prior=prior)

    def p_values(self, observed: Floats) -> Floats:
        excess = _excess(observed, self.threshold, logarithmic=self.logarithmic)
        beyond = self.share * (1 + excess / (self.degrees * self.mean)) ** (-self.degrees)
        result: Floats = np.where(observed > self.threshold, beyond, self.null.p_values(observed))
        return result


def _tail(null: Null, groups: int, share: float, *, logarithmic: bool, prior: tuple[float, float]) -> Tail:
    at = min(int(np.searchsorted(-null.tail_weight, -share * null.tail_weight[0])), null.values.size - 1)
    threshold = max(float(null.values[at]), LEAST_LENGTH) if logarithmic else float(null.values[at])
    weight = -np.diff(null.tail_weight[at:])
    excess = _excess(null.values[at:], threshold, logarithmic=logarithmic)
    mean = max(float((weight * excess).sum() / weight.sum()), LEAST_EXCESS)
    seen = max(1.0, min(float(null.values.size - at - 1), groups * max(share, 0.5)))
    degrees = seen + prior[0]
    mean = (seen * mean + prior[0] * prior[1]) / degrees
    return Tail(null, threshold, float(null.p_values(np.array([threshold]))[0]), mean, degrees, logarithmic)


def _excess(values: Floats, threshold: float, *, logarithmic: bool) -> Floats:
    beyond = np.maximum(values, threshold)
    result: Floats = np.log(beyond / threshold) if logarithmic else beyond - threshold
    return result
