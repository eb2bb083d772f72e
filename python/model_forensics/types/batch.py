"""What a batch of incidents came to: `summary.json`."""

from __future__ import annotations

from datetime import datetime
from typing import Final, Literal

from model_forensics.types.base import Frozen, Printable
from model_forensics.types.results import Verdict

SUMMARY_SCHEMA_VERSION: Final = "1.0"

IncidentState = Literal[
    "running",  # a worker has it, or had it when everything was killed
    "done",  # its result is there
    "benign",  # a recording of benign runs: nothing to explain
    "refused",  # the bundle cannot be analysed
    "poisoned",  # it ended its worker twice
]


class IncidentFinding(Frozen):
    """What a worker reports of one bundle, whose result it has written; `verdict` is null for a benign recording."""

    bundle_id: str
    content_digest: str | None
    verdict: Verdict | None
    cause: str | None  # the fix set in words, when it is a cause or a workaround
    signature: str | None  # where the run departs; see docs/triage.md
    anomaly_score: float | None
    confidence: float | None
    flip_rate: float | None
    seconds: float


class IncidentGroup(Frozen):
    """Incidents with one cause or, where none was found, with one signature."""

    kind: Literal["cause", "workaround", "signature", "unexplained"]
    key: str
    count: int
    incidents: tuple[str, ...]  # names of the first results by anomaly score, at most 20
    anomaly_score: tuple[float, float] | None  # least and largest
    confidence: tuple[float, float] | None
    flip_rate: tuple[float, float] | None


class IncidentFailure(Frozen):
    incident: str
    state: Literal["refused", "poisoned"]
    error: str


class Durations(Frozen):
    """Seconds that analyses took, of those that are done."""

    total: float
    median: float
    p95: float
    longest: float


class BatchSummary(Frozen):
    """`summary.json`. Missing is null, never a made-up number."""

    schema_version: Literal["1.0"] = SUMMARY_SCHEMA_VERSION
    directory: Printable
    output: Printable
    started_at: datetime  # of the first run, when it was resumed
    finished_at: datetime
    workers: int
    workers_reason: str
    counts: dict[IncidentState, int]
    verdicts: dict[str, int]
    groups: tuple[IncidentGroup, ...]  # the largest first
    failures: tuple[IncidentFailure, ...]
    durations: Durations | None
    settings: dict[str, Printable | None]

    @property
    def failed(self) -> int:
        return self.counts.get("refused", 0) + self.counts.get("poisoned", 0)

    @property
    def found(self) -> int:
        """Incidents with something to look at: a cause, a workaround or an anomaly."""
        return sum(self.verdicts.get(one, 0) for one in ("cause_found", "workaround_found", "anomaly_located"))
