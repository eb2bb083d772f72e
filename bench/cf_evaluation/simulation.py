"""Family-wise error of resampled means where the truth is known: exchangeable groups, correlated sites."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bench.cf_evaluation.plan import Plan
from model_forensics.cf.calibration import JUDGED_BY, RESAMPLES
from model_forensics.cf.maximum import MaximumNull
from model_forensics.cf.onset import FAMILY_WISE_ERROR
from model_forensics.cf.resampling import HeldOutScores

SITES, COLUMNS = 40, 12
PROMPTS = 10  # of a recording
RECORDINGS = 40  # that each baseline judges
HEAVY = 5  # degrees of freedom of a group's common scale, the same at all of its sites


def measure(plan: Plan) -> list[dict[str, Any]]:
    """One row for every size of a baseline, kind of tails and correlation of sites."""
    return [
        _rates(groups, heavy, correlation, plan.simulated)
        for groups in (20, 100)
        for heavy in (False, True)
        for correlation in (0.3, 0.8)
    ]


def _rates(groups: int, heavy: bool, correlation: float, baselines: int) -> dict[str, Any]:
    rates: dict[str, list[float]] = {"by_others": [], "by_all": []}
    for baseline in range(baselines):
        rng = np.random.default_rng([groups, heavy, round(100 * correlation), baseline])
        benign = _scores(rng, groups, heavy, correlation)
        new = _scores(rng, RECORDINGS * PROMPTS, heavy, correlation).reshape(RECORDINGS, PROMPTS, SITES, COLUMNS)
        centre, spread = benign.mean(axis=0), benign.std(axis=0, ddof=1)
        observed = (new.mean(axis=1) - centre) / spread / np.sqrt(1 / PROMPTS + 1 / groups)
        standard = (benign - centre) / spread
        for name, draw in (("by_others", _by_others(standard)), ("by_all", _by_all(standard))):
            null = MaximumNull.of(
                _statistic(np.stack([draw(rng) for _ in range(RESAMPLES)])),
                np.full(RESAMPLES, groups / RESAMPLES),
                groups,
            )
            smallest = [null.p_values(one).min() for one in _statistic(observed)]
            rates[name].append(float(np.mean(np.array(smallest) <= FAMILY_WISE_ERROR)))
    return {"groups": groups, "heavy": heavy, "correlation": correlation, "baselines": baselines} | {
        name: {"rate": float(np.mean(found)), "error": float(np.std(found, ddof=1) / np.sqrt(baselines))}
        for name, found in rates.items()
    }


def _scores(rng: np.random.Generator, groups: int, heavy: bool, correlation: float) -> np.ndarray:
    """[groups, SITES, COLUMNS], equally correlated sites."""
    common, own = rng.normal(size=(groups, 1, COLUMNS)), rng.normal(size=(groups, SITES, COLUMNS))
    scale = np.sqrt(HEAVY / rng.chisquare(HEAVY, size=(groups, 1, 1))) if heavy else 1.0
    result: np.ndarray = scale * (np.sqrt(correlation) * common + np.sqrt(1 - correlation) * own)
    return result


def _by_others(standard: np.ndarray) -> Callable[[np.random.Generator], np.ndarray]:
    """The product's draws."""
    held_out = HeldOutScores(standard, np.arange(len(standard)), np.zeros(standard.shape[1:]))
    size = min(PROMPTS, len(standard) // JUDGED_BY)
    return lambda rng: held_out.draw(size, rng)


def _by_all(standard: np.ndarray) -> Callable[[np.random.Generator], np.ndarray]:
    """What one would write down first: subsets of half the groups or less, with the variance of sampling without
    replacement."""
    groups = len(standard)
    size = min(PROMPTS, groups // 2)
    spread = np.sqrt((1 / size - 1 / groups) * groups / (groups - 1))
    return lambda rng: standard[rng.choice(groups, size, replace=False)].mean(axis=0) / spread


def _statistic(scores: np.ndarray) -> np.ndarray:
    """[..., SITES] log of the mean square."""
    result: np.ndarray = np.log((scores**2).mean(axis=-1))
    return result
