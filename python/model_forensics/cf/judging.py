"""Scores and p-values of what was read from a recording."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtri

from model_forensics.cf.baseline import Baseline
from model_forensics.cf.calibration import MINIMUM_GROUPS, Calibration, Scores, q_values
from model_forensics.cf.limits import layout_differences, reasons_not_judged
from model_forensics.cf.planes import Floats
from model_forensics.cf.reading import Reading

if TYPE_CHECKING:
    from model_forensics.types import Recording


@dataclass(frozen=True)
class Judged:
    """Scores of a reading, [sites] float64 each."""

    scores: Scores
    p: Floats
    sigma: Floats
    bh: Floats
    by: Floats
    methods: dict[str, Floats]  # p-values
    reasons: list[str | None]
    given_upstream: Floats | None = None  # family-wise p-values; None where the baseline has too few groups


def judge(
    reading: Reading, recording: Recording, baseline: Baseline, calibration: Calibration, warnings: list[str]
) -> Judged:
    """Score a reading; what limits that is added to `warnings`."""
    layouts = layout_differences(baseline, recording)
    comparable = np.array([difference is None for difference in layouts])
    tables = np.where(comparable[:, None], reading.tables, np.nan)
    assert reading.sketches is not None
    innovations = np.stack([baseline.innovations.of(sketch) for sketch in reading.sketches])
    profiles = np.where(comparable[:, None], innovations, np.nan)
    groups = [sample.group for sample in recording.samples]
    scores = calibration.score(tables, reading.tokens, profiles, groups)
    reasons = reasons_not_judged(baseline, reading.tokens, scores.statistic, layouts)
    nothing = np.full(len(reading.layout), np.nan)
    if calibration.sites is None:
        warnings.append(
            f"insufficient baseline: at most {baseline.judged_groups.max()} groups recorded a site, "
            f"p-values need {MINIMUM_GROUPS}; sites are ranked only"
        )
        return Judged(scores, nothing, nothing, nothing, nothing, {}, reasons)
    unjudged = np.array([reason is not None for reason in reasons])
    p = np.where(unjudged, np.nan, calibration.sites.p_values(scores.statistic))
    bh, by = q_values(p)
    by_method = {
        name: np.where(unjudged, np.nan, null.p_values(scores.methods[name]))
        for name, null in calibration.methods.items()
    }
    given = None
    if calibration.onset is not None and scores.shift is not None:
        given = np.where(unjudged, np.nan, calibration.onset.p_values(scores.given_upstream, scores.shift))
    return Judged(scores, p, -ndtri(p), bh, by, by_method, reasons, given)


def incident_p_value(judged: Judged, hard: Sequence[bool], calibration: Calibration) -> float | None:
    """How often a benign recording's largest site departs as far; None without enough groups or a judged site."""
    if calibration.incident is None or calibration.sites is None:
        return None
    values = np.where([reason is None for reason in judged.reasons], judged.scores.statistic, np.nan)
    finite = values[np.isfinite(values)]
    p = float(calibration.incident.p_values(np.array([finite.max()]))[0]) if finite.size else None
    if any(hard):
        # Benign samples hold none; the smallest p-value that the baseline's size allows to state.
        floor = calibration.sites.floor
        p = floor if p is None else min(p, floor)
    return p


def incident_score(p_value: float, threshold: float) -> float:
    """s/(s + threshold/4) with s = max(0, sigma of p): 0.8 is at the threshold."""
    sigma = max(0.0, -float(ndtri(max(p_value, 1e-300))))
    return sigma / (sigma + threshold / 4)
