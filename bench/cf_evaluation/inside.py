"""The one place that reaches inside the product: fifty single-site faults for the price of one analysis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.cf_evaluation.plan import CONFIG
from model_forensics.cf import Baseline, fit_baseline
from model_forensics.cf.blocks import Block
from model_forensics.cf.calibration import Calibration
from model_forensics.cf.planes import read_entries
from model_forensics.types import Recording


@dataclass(frozen=True)
class Scorer:
    """A fitted baseline and its calibration."""

    baseline: Baseline
    calibration: Calibration

    @staticmethod
    def of(recordings: Sequence[Recording]) -> Scorer:
        baseline = fit_baseline(recordings, CONFIG)
        return Scorer(baseline, baseline.calibration(CONFIG.compression_methods))

    def normal(self, recording: Recording) -> np.ndarray:
        """[sites, columns] normal scores of the first sample."""
        entries = read_entries(recording, 0, self.baseline.layout)
        whole = Block(slice(0, len(self.baseline.layout)), self.baseline.layout)
        table = self.baseline.instrument(whole, CONFIG.compression_methods).measure(entries).table
        return self.calibration.judge.normal_scores(table, entries.rows)

    def statistic(self, normal: np.ndarray) -> np.ndarray:
        """[sites]"""
        return self.calibration.judge.scores(normal).statistic

    def one_by_one(self, clean: np.ndarray, faulty: np.ndarray) -> np.ndarray:
        """[sites] the statistic of each site when it alone is faulty and all others are clean."""
        mixed = np.repeat(clean[None], len(clean), axis=0)
        diagonal = np.arange(len(clean))
        mixed[diagonal, diagonal] = faulty
        result: np.ndarray = self.calibration.judge.scores(mixed).statistic[diagonal, diagonal]
        return result

    def p_values(self, statistic: np.ndarray) -> np.ndarray:
        if self.calibration.sites is None:
            raise ValueError("the baseline has too few groups for p-values")
        return self.calibration.sites.p_values(statistic)
