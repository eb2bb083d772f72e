"""The results document, `results.json`, and what the other commands return."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, ClassVar, Final, Literal

from model_forensics.types.base import Frozen, Printable
from model_forensics.types.causal import FixSet, Replay, SearchSpent
from model_forensics.types.forensics import Onset, SiteMetrics, VersionDifference
from model_forensics.types.recordings import ModelReference

RESULTS_SCHEMA_VERSION: Final = "1.0"

Verdict = Literal[
    "cause_found",  # a smallest set of interventions restores the right behaviour
    "workaround_found",  # a set flips the failure without restoring the computation
    "no_fix_found",  # the failure reproduces; no set within the limits removes it, or only by copying an answer
    "not_reproduced",  # the failure does not happen on replay
    "anomaly_located",  # forensics only: sites depart from the baseline
    "nothing_anomalous",  # forensics only: no site departs from the baseline
    "not_judged",  # forensics only, and no baseline to judge with
]


class Evidence(Frozen):
    replay: Replay | None
    search: SearchSpent | None
    best_effect: FixSet | None
    onset_agrees: bool | None  # the fix set's earliest layer is the onset's
    # How far the donor's activations are from the incident's, at the component and token where they differ most, over
    # the length of a usual row of the donor's; null without a donor on the same input, or where it is not finite.
    largest_change: float | None = None


class Environment(Frozen):
    """What is needed to re-run the analysis."""

    model_forensics: str
    python: str
    platform: str
    numpy: str
    torch: str | None
    transformers: str | None
    device: str | None
    threads: int | None
    backends: dict[str, str]  # operation → backend that served it
    seed: int
    configuration: dict[str, Any]
    model_source: Printable | None
    model_factory: str | None
    weights_digest: str | None
    donor_source: Printable | None
    incident_path: Printable | None
    baseline_path: Printable | None


class BundleSummary(Frozen):
    """What the report says about the incident."""

    path: Printable | None
    created_at: datetime
    samples: int
    groups: int
    tokens: int
    sites: int
    bytes: int | None
    model: ModelReference | None
    failure: str | None  # in words


class AnalysisResult(Frozen):
    """`results.json`. Missing is null, never a made-up number."""

    schema_version: Literal["1.0"] = RESULTS_SCHEMA_VERSION
    bundle_id: str
    verdict: Verdict
    confidence: float | None
    execution_time: float  # seconds
    anomaly_score: float | None
    anomaly_p_value: float | None = None
    compression_metrics: tuple[SiteMetrics, ...]
    onset: Onset | None
    strongest: Onset | None
    fix_set: FixSet | None
    alternatives: tuple[FixSet, ...] = ()
    workarounds: tuple[FixSet, ...] = ()
    evidence: Evidence
    version_difference: VersionDifference | None = None
    incident: BundleSummary
    environment: Environment
    warnings: tuple[Printable, ...] = ()
    export_path: Printable | None = None

    _shown: ClassVar[list[Callable[[AnalysisResult], str]]] = []

    @classmethod
    def shown_by(cls, render: Callable[[AnalysisResult], str]) -> None:
        """`render` makes the HTML that notebooks show; the part that can draw says so when it is loaded."""
        cls._shown[:] = [render]

    def _repr_html_(self) -> str | None:
        """For notebooks; None, and with it the plain text, where nothing that can draw is loaded."""
        return self._shown[0](self) if self._shown else None


class TriageEntry(Frozen):
    """One bundle of a triage. `error` is set, and everything measured null, when the bundle was refused."""

    path: str
    bundle_id: str | None
    created_at: datetime | None
    bytes: int | None
    samples: int | None
    anomaly_score: float | None
    p_value: float | None
    strongest: str | None  # most suspicious site
    onset: str | None
    anomalous_sites: int | None
    signature: str | None = None  # where it departs; null where nothing does, or nothing could be judged
    group: int | None = None  # number of its group; null when the bundle was refused
    content_digest: str | None = None  # of the bundle's content, the same however it is stored
    error: str | None = None


class Export(Frozen):
    """A fix set written for use elsewhere, or the reason why it was not. What is written was run and does the same."""

    kind: Literal["hook", "weights"]
    path: str
    refused: str | None  # nothing was written, and everything below is null
    max_error: float | None = None  # largest departure from the fix set's outputs, relative to the largest logit
    samples: int | None = None  # that it was run on
    weights_digest: str | None = None  # of edited weights
    changed: tuple[str, ...] | None = None  # their tensors that differ from the model's
    equals_donor: bool | None = None  # the edited weights are the donor model's, tensor for tensor


class TriageGroup(Frozen):
    """Bundles of a triage with one signature."""

    number: int  # from 1, in the order of the ranking
    signature: str | None  # null: no site departs, or nothing could be judged
    count: int
    representative: str  # path of the first in the ranking
    anomaly_score: tuple[float, float] | None  # least and largest


class Validation(Frozen):
    """A fix set measured anew beside what the results file says."""

    holds: bool
    reason: str
    recorded: FixSet
    measured: FixSet
    exports: tuple[Export, ...] = ()
