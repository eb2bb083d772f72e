"""What a worker of a batch does with an incident: the pipeline, with everything loaded once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from model_forensics import report
from model_forensics.bundle import load_bundles
from model_forensics.cf import Baseline, is_baseline
from model_forensics.files import write_protected
from model_forensics.pipeline import bookkeeping, sources
from model_forensics.pipeline.rca import RCAPipeline
from model_forensics.pipeline.signatures import signature_of
from model_forensics.types import AnalysisResult, IncidentFinding, Recording

if TYPE_CHECKING:
    from model_forensics.batch import Task
    from model_forensics.config import Config
    from model_forensics.models import Model


@dataclass(frozen=True)
class AnalystSetup:
    """Everything that workers need, in plain values, because it travels to them; called there, it loads.

    Attributes:
        fitted: where the baseline is, fitted once for all workers.
        benign: the benign recordings that donors and side effects come from.
        model, donor_model, model_factory: as for `analyze_incident`; no model: those that the bundles name.
        html: write a page beside each JSON.
        strict: refuse bundles whose weights differ from the model's.
    """

    config: Config
    fitted: Path | None
    benign: Path | None
    model: str | None
    donor_model: str | None
    model_factory: str | None
    html: bool
    strict: bool

    def __call__(self) -> PipelineAnalyst:
        return PipelineAnalyst(self)


class PipelineAnalyst:
    """Runs `RCAPipeline.analyze_incident` on one incident after the other."""

    def __init__(self, setup: AnalystSetup) -> None:
        self._setup = setup
        self._pipeline = RCAPipeline(setup.config)
        self._benign = self._open_baseline()
        searching = setup.config.modules.cca.enabled
        self._model = self._open(setup.model) if searching and (setup.model or setup.model_factory) else None
        self._donor = self._open(setup.donor_model) if searching and setup.donor_model else None
        self._recorded: tuple[str | None, Model | None] = None, None

    @property
    def identity(self) -> dict[str, str | None]:
        """Digests of the weights that were loaded."""
        loaded = {"weights": self._model, "donor weights": self._donor}
        return {name: model.reference.weights_digest for name, model in loaded.items() if model is not None}

    def __call__(self, task: Task) -> IncidentFinding:
        with bookkeeping.entered(self._setup.config, task.path, task.run):  # also what cannot be opened
            return self._analyze(task)

    def _analyze(self, task: Task) -> IncidentFinding:
        recording = sources.open_recording(task.path, self._setup.config)
        if recording.kind == "benign":
            return _nothing(recording)
        result = self._pipeline.analyze_incident(
            recording,
            self._benign,
            self._model or self._recorded_model(recording),
            donor_model=self._donor,
            output=task.result,
            staged=task.staged,
            run=task.run,
            strict=self._setup.strict,
        )
        if self._setup.html:
            page = task.staged.with_name(f"{task.name}.html")
            write_protected(page, report.render_html(result), role=report.REPORT_ROLE)
        return _finding(result, recording)

    def _open_baseline(self) -> sources.BenignSource:
        fitted, benign = self._setup.fitted, self._setup.benign
        if fitted is None:
            return sources.BenignSource(None, (), None)
        baseline = Baseline.load(fitted)
        if benign is None or is_baseline(benign):
            return sources.BenignSource(baseline, (), benign)
        return sources.BenignSource(baseline, tuple(load_bundles(benign, verify=False)), benign)  # verified before

    def _open(self, source: str | None) -> Model:
        return sources.open_model(source, factory=self._setup.model_factory, config=self._setup.config)

    def _recorded_model(self, recording: Recording) -> Model | None:
        """The model that a bundle names, kept for the next one that names it; None where the pipeline says why not."""
        if not self._setup.config.modules.cca.enabled:
            return None
        place = sources.recorded_place(recording)
        if place is not None and self._recorded[0] != place:
            self._recorded = None, None  # before the next one is loaded beside it
            self._recorded = place, sources.open_recorded_model(recording, self._setup.config)[0]
        return None if place is None else self._recorded[1]


def _finding(result: AnalysisResult, recording: Recording) -> IncidentFinding:
    fix = result.fix_set
    return IncidentFinding(
        bundle_id=result.bundle_id,
        content_digest=recording.content_digest,
        verdict=result.verdict,
        cause=None if fix is None else ", ".join(sorted(map(str, fix.interventions))),
        signature=signature_of(result.compression_metrics, result.onset),
        anomaly_score=result.anomaly_score,
        confidence=result.confidence,
        flip_rate=None if fix is None else fix.flip_rate,
        seconds=result.execution_time,
    )


def _nothing(recording: Recording) -> IncidentFinding:
    return IncidentFinding(
        bundle_id=recording.bundle_id, content_digest=recording.content_digest, verdict=None, cause=None,
        signature=None, anomaly_score=None, confidence=None, flip_rate=None, seconds=0.0,
    )  # fmt: skip
