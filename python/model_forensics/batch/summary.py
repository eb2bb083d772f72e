"""`summary.json` and `summary.html`, from the ledger alone: no result is read again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, cast

from model_forensics.batch.ledger import Ledger
from model_forensics.batch.places import Places
from model_forensics.files import Document, write_together
from model_forensics.report import REPORT_ROLE, render_batch_html
from model_forensics.types import BatchSummary, Durations, IncidentFailure, IncidentGroup, IncidentState

SUMMARY_ROLE = "summary"
_NAMED = 20  # incidents of a group that are named

Kind = Literal["cause", "workaround", "signature", "unexplained"]
_KINDS = """
SELECT name, anomaly_score, confidence, flip_rate,
  CASE WHEN cause IS NOT NULL AND verdict = 'cause_found' THEN 'cause'
       WHEN cause IS NOT NULL THEN 'workaround'
       WHEN signature IS NOT NULL THEN 'signature' ELSE 'unexplained' END AS kind,
  coalesce(cause, signature, verdict) AS key
FROM incident WHERE state = 'done' ORDER BY anomaly_score DESC, name
"""


def summarise(ledger: Ledger, places: Places, directory: Path, workers: int, reason: str) -> BatchSummary:
    """What the ledger says, when nothing is left to do."""
    return BatchSummary(
        directory=str(directory.resolve()),
        output=str(places.root),
        started_at=ledger.started_at(),
        finished_at=datetime.now(UTC),
        workers=workers,
        workers_reason=reason,
        counts=cast("dict[IncidentState, int]", _counts(ledger, "state")),
        verdicts=_counts(ledger, "verdict"),
        groups=tuple(_groups(ledger)),
        failures=tuple(_failures(ledger)),
        durations=_durations(ledger),
        settings=ledger.settings() or {},
    )


def write_summary(summary: BatchSummary, places: Places) -> None:
    """Both files, or neither."""
    json_path, html_path = places.summaries
    page = Document(html_path, render_batch_html(summary), REPORT_ROLE)
    write_together([page, Document(json_path, summary.model_dump_json(indent=2) + "\n", SUMMARY_ROLE)])


def _counts(ledger: Ledger, column: Literal["state", "verdict"]) -> dict[str, int]:
    found = ledger.query(
        f"SELECT {column}, count(*) FROM incident WHERE {column} IS NOT NULL GROUP BY {column} ORDER BY {column}"
    )
    return {str(name): int(str(count)) for name, count in found}


@dataclass
class _Range:
    low: float | None = None
    high: float | None = None

    def add(self, value: float | None) -> None:
        if value is not None:
            self.low = value if self.low is None else min(self.low, value)
            self.high = value if self.high is None else max(self.high, value)

    @property
    def both(self) -> tuple[float, float] | None:
        return None if self.low is None or self.high is None else (self.low, self.high)


@dataclass
class _Group:
    count: int = 0
    names: list[str] = field(default_factory=list)
    ranges: tuple[_Range, _Range, _Range] = field(default_factory=lambda: (_Range(), _Range(), _Range()))


def _groups(ledger: Ledger) -> Iterator[IncidentGroup]:
    groups: dict[tuple[Kind, str], _Group] = defaultdict(_Group)
    for name, score, confidence, flip_rate, kind, key in _rows(ledger, _KINDS):
        group = groups[kind, key]
        group.count += 1
        if group.count <= _NAMED:
            group.names.append(name)
        for span, value in zip(group.ranges, (score, confidence, flip_rate), strict=True):
            span.add(value)
    for (kind, key), group in sorted(groups.items(), key=lambda item: (-item[1].count, item[0])):
        score, confidence, flip_rate = (span.both for span in group.ranges)
        yield IncidentGroup(
            kind=kind,
            key=key,
            count=group.count,
            incidents=tuple(group.names),
            anomaly_score=score,
            confidence=confidence,
            flip_rate=flip_rate,
        )


def _failures(ledger: Ledger) -> Iterator[IncidentFailure]:
    query = "SELECT name, state, error FROM incident WHERE state IN ('refused', 'poisoned') ORDER BY name"
    for name, state, error in _rows(ledger, query):
        yield IncidentFailure(incident=name, state=state, error=error)


def _durations(ledger: Ledger) -> Durations | None:
    query = "SELECT seconds FROM incident WHERE state = 'done' ORDER BY seconds"
    seconds = [row[0] for row in _rows(ledger, query)]
    if not seconds:
        return None
    return Durations(
        total=sum(seconds), median=_quantile(seconds, 0.5), p95=_quantile(seconds, 0.95), longest=seconds[-1]
    )


def _quantile(ordered: list[float], share: float) -> float:
    """The smallest value that at least this share does not exceed."""
    return float(ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))])


def _rows(ledger: Ledger, query: str) -> list[Any]:
    return ledger.query(query)
