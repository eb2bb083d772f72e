"""Benign values of a statistic, as p-values: their own shares, or with an extrapolated tail."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from model_forensics.cf.planes import Floats


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

    Below `threshold` p-values are the null's own. Above it the logarithm of the excess is taken as exponential (a
    Pareto tail;
    Hill 1975, Ann. Stat. 3:1163) and its unknown rate is integrated out, which gives
    p = share · (1 + log(T / threshold) / (k · mean))^(−k). `k` counts at most one exceedance a group, because sites of
    one run are dependent: few groups give a heavy tail.
    """

    null: Null
    threshold: float
    share: float
    mean: float
    degrees: float

    @staticmethod
    def of(values: Floats, weights: Floats, groups: int, share: float, prior: tuple[float, float] = (0.0, 0.0)) -> Tail:
        """From [samples, sites] values, [samples] weights and the share of values that count as the tail.

        Args:
            prior: exceedances that are taken as seen before any, and their mean logarithm: few groups teach a tail
                little, and by chance nothing.
        """
        null = Null.of(values, weights)
        at = min(int(np.searchsorted(-null.tail_weight, -share * null.tail_weight[0])), null.values.size - 1)
        threshold = max(float(null.values[at]), 1e-9)
        weight = -np.diff(null.tail_weight[at:])
        logs = np.log(np.maximum(null.values[at:], threshold) / threshold)
        mean = max(float((weight * logs).sum() / weight.sum()), 0.02)
        seen = max(1.0, min(float(null.values.size - at - 1), groups * max(share, 0.5)))
        degrees = seen + prior[0]
        mean = (seen * mean + prior[0] * prior[1]) / degrees
        return Tail(null, threshold, float(null.p_values(np.array([threshold]))[0]), mean, degrees)

    def p_values(self, observed: Floats) -> Floats:
        excess = np.log(np.maximum(observed, self.threshold) / self.threshold)
        beyond = self.share * (1 + excess / (self.degrees * self.mean)) ** (-self.degrees)
        result: Floats = np.where(observed > self.threshold, beyond, self.null.p_values(observed))
        return result
