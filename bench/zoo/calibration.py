"""How well a confidence serves as the probability that the cause named is the cause."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BINS = 10
FEWEST = 10
"""Below so many reported causes nothing is said."""


@dataclass(frozen=True)
class Calibration:
    """Of reported causes.

    Attributes:
        error: expected calibration error: |mean confidence − share right| over ten bins of equally many, weighted;
            equal confidences stay together.
        auroc: that a right cause has the higher confidence of a right and a wrong one; None where all are alike.
        brier, base_rate_brier: mean squared error of the confidence, and of the share right for everyone.
        brier_ratio: of these; None where all or none are right.
    """

    causes: int
    right: int
    error: float
    auroc: float | None
    brier: float
    base_rate_brier: float
    brier_ratio: float | None


def calibration(confidence: npt.NDArray[np.float64], right: npt.NDArray[np.bool_]) -> Calibration | None:
    """None with fewer than `FEWEST` causes."""
    if len(confidence) < FEWEST:
        return None
    rate = float(right.mean())
    brier = float(((confidence - right) ** 2).mean())
    gaps = [abs(float(confidence[part].mean() - right[part].mean())) * int(part.sum()) for part in _bins(confidence)]
    return Calibration(
        causes=len(confidence),
        right=int(right.sum()),
        error=sum(gaps) / len(confidence),
        auroc=_auroc(confidence, right),
        brier=brier,
        base_rate_brier=rate * (1 - rate),
        brier_ratio=brier / (rate * (1 - rate)) if 0 < rate < 1 else None,
    )


def _bins(confidence: npt.NDArray[np.float64]) -> Iterator[npt.NDArray[np.bool_]]:
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


def _auroc(confidence: npt.NDArray[np.float64], right: npt.NDArray[np.bool_]) -> float | None:
    if right.all() or not right.any():
        return None
    higher = confidence[right][:, None] - confidence[~right][None]
    return float((higher > 0).mean() + (higher == 0).mean() / 2)
