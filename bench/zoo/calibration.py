"""How well a confidence serves as the probability that the cause named is the cause."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from bench.zoo.intervals import Interval, resampled

BINS = 10
FEWEST = 10
"""Below so many reported causes nothing is said."""
Confidences, Rights = npt.NDArray[np.float64], npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Calibration:
    """Of reported causes.

    Attributes:
        error: expected calibration error: |mean confidence − share right| over ten bins of equally many, weighted;
            equal confidences stay together.
        auroc: that a right cause has the higher confidence of a right and a wrong one; None where all are alike.
        brier, base_rate_brier: mean squared error of the confidence, and of the share right for everyone.
        brier_ratio: of these; None where all or none are right.
        intervals: of error, auroc and brier_ratio. The error's lies high: it cannot be below 0, and draws add to it.
    """

    causes: int
    right: int
    error: float
    auroc: float | None
    brier: float
    base_rate_brier: float
    brier_ratio: float | None
    intervals: Mapping[str, Interval | None]


def calibration(confidence: Confidences, right: Rights) -> Calibration | None:
    """None with fewer than `FEWEST` causes."""
    if len(confidence) < FEWEST:
        return None
    rate = float(right.mean())
    measures: dict[str, Callable[..., float | None]] = {"error": _error, "auroc": _auroc, "brier_ratio": _brier_ratio}
    return Calibration(
        causes=len(confidence),
        right=int(right.sum()),
        error=_error(confidence, right),
        auroc=_auroc(confidence, right),
        brier=_brier(confidence, right),
        base_rate_brier=rate * (1 - rate),
        brier_ratio=_brier_ratio(confidence, right),
        intervals={name: resampled(measure, confidence, right) for name, measure in measures.items()},
    )


def _error(confidence: Confidences, right: Rights) -> float:
    gaps = [abs(float(confidence[part].mean() - right[part].mean())) * int(part.sum()) for part in _bins(confidence)]
    return sum(gaps) / len(confidence)


def _brier(confidence: Confidences, right: Rights) -> float:
    return float(((confidence - right) ** 2).mean())


def _brier_ratio(confidence: Confidences, right: Rights) -> float | None:
    rate = float(right.mean())
    return _brier(confidence, right) / (rate * (1 - rate)) if 0 < rate < 1 else None


def _bins(confidence: Confidences) -> Iterator[Rights]:
    """Of at least a tenth of all each but the last, in order; equal confidences are not parted."""
    low = -np.inf
    for value in np.unique(confidence):
        chosen = (confidence > low) & (confidence <= value)
        if BINS * chosen.sum() >= len(confidence):
            yield chosen
            low = value
    rest = confidence > low
    if rest.any():
        yield rest


def _auroc(confidence: Confidences, right: Rights) -> float | None:
    if right.all() or not right.any():
        return None
    wins = float(rankdata(confidence)[right].sum()) - right.sum() * (right.sum() + 1) / 2  # Mann-Whitney's U
    return float(wins / (right.sum() * (~right).sum()))
