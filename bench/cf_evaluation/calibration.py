"""How often clean recordings are flagged: disjoint baselines against recordings of groups that none of them saw."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.cf_evaluation.intervals import two_way_interval
from bench.cf_evaluation.networks import Network
from bench.cf_evaluation.plan import CONFIG, LEVELS, Plan
from model_forensics.bundle.memory import MemoryRecording
from model_forensics.cf import Baseline, analyze, fit_baseline
from model_forensics.types import ForensicsResult

INCIDENT_ALARM = 0.8
INCIDENT_GROUPS = 10


def baselines_of(pool: list[MemoryRecording], groups: int, count: int) -> list[Baseline]:
    """Disjoint baselines of `groups` groups each."""
    return [fit_baseline(pool[n * groups : (n + 1) * groups], CONFIG) for n in range(count)]


def measure(network: Network, plan: Plan) -> list[dict[str, Any]]:
    """One row for every baseline size and incident size."""
    pool = [network.record([prompt], f"pool{n}") for n, prompt in enumerate(network.pool)]
    tested = [network.record([prompt], f"tested{n}") for n, prompt in enumerate(network.tested)]
    starts = range(0, len(network.tested) - INCIDENT_GROUPS + 1, INCIDENT_GROUPS)
    several = [network.record(network.tested[at : at + INCIDENT_GROUPS], f"several{at}") for at in starts]
    rows = []
    for groups, (count, judged) in plan.baselines.items():
        of_several, judged_of_several = plan.incidents.get(groups, (0, 0))
        fitted = baselines_of(pool, groups, max(count, of_several))
        rows.append(_rates(network.name, groups, 1, fitted[:count], tested, judged))
        if of_several:
            rows.append(_rates(network.name, groups, INCIDENT_GROUPS, fitted[:of_several], several, judged_of_several))
    return rows


def _rates(
    network: str, groups: int, incident_groups: int, fitted: list[Baseline], tested: list[MemoryRecording], judged: int
) -> dict[str, Any]:
    """Each baseline judges `judged` recordings; they take turns, so that all recordings are judged about as often."""
    results: list[ForensicsResult] = []
    row_numbers, column_numbers = [], []
    for number, baseline in enumerate(fitted):
        for turn in range(judged):
            at = (number * judged + turn) % len(tested)
            results.append(analyze(tested[at], baseline, CONFIG, windows=False))
            row_numbers.append(number)
            column_numbers.append(at)
    p = np.array([[np.nan if row.p_value is None else row.p_value for row in r.metrics] for r in results])
    names = [row.site for row in results[0].metrics]
    flagged = np.array([any(row.is_anomalous for row in result.metrics) for result in results])
    alarms = np.array([(result.anomaly_score or 0.0) > INCIDENT_ALARM for result in results])
    onsets = np.array([result.onset is not None for result in results])
    units = np.array(row_numbers), np.array(column_numbers)
    tokens = np.array([np.mean([sample.tokens for sample in tested[at].samples]) for at in column_numbers])
    outcome: dict[str, Any] = {
        "network": network,
        "groups": groups,
        "incident_groups": incident_groups,
        "baselines": len(fitted),
        "judged_groups": len(set(column_numbers)) * incident_groups,
        "recordings": len(results),
        "sites": len(names),
        "smallest_p": float(np.nanmin(p)),
        "levels": [_level(p, level, names, tokens, *units) for level in LEVELS],
    }
    for name, hits in (("any_site_flagged", flagged), ("incident_alarm", alarms), ("onset", onsets)):
        outcome[name] = {"rate": float(hits.mean()), "interval": two_way_interval(hits.astype(float), *units)}
    return outcome


def _level(
    p: np.ndarray, level: float, names: list[str], tokens: np.ndarray, rows: np.ndarray, columns: np.ndarray
) -> dict[str, Any]:
    hit = np.where(np.isfinite(p), p <= level, np.nan)
    by_recording = np.nanmean(hit, axis=1)
    by_site = np.nanmean(hit, axis=0)
    by_baseline = [float(by_recording[rows == number].mean()) for number in np.unique(rows)]
    third = np.searchsorted(np.quantile(tokens, [1 / 3, 2 / 3]), tokens)
    worst = int(np.argmax(by_site))
    return {
        "nominal": level,
        "rate": float(by_recording.mean()),
        "interval": two_way_interval(by_recording, rows, columns),
        "by_baseline": by_baseline,
        "by_length": [float(by_recording[third == part].mean()) for part in range(3)],  # shortest third first
        "worst_site": names[worst],
        "worst_site_rate": float(by_site[worst]),
        "by_site": {name: float(rate) for name, rate in zip(names, by_site, strict=True)},
    }
