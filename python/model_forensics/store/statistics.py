"""Counts, percentiles and rates over rows of the ledger."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Finished:
    """What of a ledger's row statistics are made from. `bundle` names the incident."""

    bundle: str
    verdict: str | None
    label: str | None
    causes: tuple[str, ...] | None
    flip_rate: float | None
    anomaly_score: float | None
    error: str | None
    seconds: dict[str, float]


@dataclass(frozen=True)
class Spread:
    """Percentiles are exact, by nearest rank: the smallest of the values that so many per cent do not exceed."""

    count: int
    mean: float
    p50: float
    p90: float
    p99: float
    largest: float


@dataclass(frozen=True)
class Cause:
    """Incidents with the same fix set; `label` is `cause` or `workaround`."""

    label: str
    sites: tuple[str, ...]
    incidents: int
    flip_rates: Spread


@dataclass(frozen=True)
class Statistics:
    """What the ledger says about a period.

    Work is counted by run, findings by incident: of an incident that was analysed several times in the period, the
    last run that was not refused counts, so that `--force` and resumed batches make no cause look frequent.

    Attributes:
        since, until: the period; `since` is None for all there is.
        runs: analyses that ended, refused ones included.
        refused: of these; `errors` says how many by the error's class.
        incidents: distinct incidents with a result.
        verdicts: incidents by verdict.
        causes: the most frequent first.
        flip_rates, anomaly_scores: over incidents; None where there are none.
        seconds: by stage and `total`, over runs; None where there are none.
    """

    since: datetime | None
    until: datetime
    runs: int
    refused: int
    incidents: int
    verdicts: dict[str, int]
    causes: tuple[Cause, ...]
    flip_rates: Spread | None
    anomaly_scores: Spread | None
    seconds: dict[str, Spread]
    errors: dict[str, int]


def summarise(rows: Sequence[Finished], *, since: datetime | None, until: datetime) -> Statistics:
    """Statistics of rows in the order in which they were entered."""
    latest = list({row.bundle: row for row in rows if row.verdict is not None}.values())
    seconds: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        for stage, taken in row.seconds.items():
            seconds[stage].append(taken)
    errors = Counter(row.error for row in rows if row.error is not None)
    return Statistics(
        since=since,
        until=until,
        runs=len(rows),
        refused=sum(row.verdict is None for row in rows),
        incidents=len(latest),
        verdicts=dict(Counter(str(row.verdict) for row in latest).most_common()),
        causes=_causes(latest),
        flip_rates=spread(row.flip_rate for row in latest),
        anomaly_scores=spread(row.anomaly_score for row in latest),
        seconds={stage: found for stage, taken in sorted(seconds.items()) if (found := spread(taken)) is not None},
        errors=dict(errors.most_common()),
    )


def spread(values: Iterable[float | None]) -> Spread | None:
    """Of the values that are there; None when there are none."""
    ordered = sorted(value for value in values if value is not None)
    if not ordered:
        return None
    p50, p90, p99 = (ordered[-(-len(ordered) * per_cent // 100) - 1] for per_cent in (50, 90, 99))  # rounded up
    return Spread(len(ordered), math.fsum(ordered) / len(ordered), p50, p90, p99, ordered[-1])


def _causes(latest: Sequence[Finished]) -> tuple[Cause, ...]:
    found: dict[tuple[str, tuple[str, ...]], list[float | None]] = defaultdict(list)
    for row in latest:
        if row.label is not None and row.causes is not None:
            found[row.label, row.causes].append(row.flip_rate)
    causes = []
    for (label, sites), rates in found.items():
        flip_rates = spread(rates)
        assert flip_rates is not None, "a fix set has a measured flip rate"
        causes.append(Cause(label, sites, len(rates), flip_rates))
    return tuple(sorted(causes, key=lambda cause: (-cause.incidents, cause.label, cause.sites)))
