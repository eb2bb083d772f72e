"""One incident, from its bundle to the result that is written."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from model_forensics import report
from model_forensics.errors import InputRefused, ModelError, UsageError
from model_forensics.files import Document, write_together
from model_forensics.logs import log_time, timed
from model_forensics.pipeline import bookkeeping, sources, streaming, verdicts
from model_forensics.pipeline.confidence import confidence
from model_forensics.pipeline.environment import describe_environment, summarise_recording
from model_forensics.pipeline.rescoring import rescorer
from model_forensics.pipeline.triage import ranking
from model_forensics.types import AnalysisResult, CausalResult, ForensicsResult, Recording

if TYPE_CHECKING:
    import numpy.typing as npt

    from model_forensics.cf import Baseline
    from model_forensics.config import Config
    from model_forensics.models import Model
    from model_forensics.pipeline.caching import Kept

Progress = Callable[[str, int, int], None]
"""Called with a stage's name, the steps done and the steps in all (0 when unknown)."""

_NO_FORENSICS: Final = ForensicsResult(
    metrics=(),
    anomaly_score=None,
    p_value=None,
    strongest=None,
    onset=None,
    baseline_id=None,
    baseline_groups=None,
    version_difference=None,
    warnings=("forensics is switched off (modules.cf.enabled), so no site is judged",),
)


@dataclass(frozen=True)
class Order:
    """What to analyse, with what, and where the result goes: the arguments of `RCAPipeline.analyze_incident`."""

    incident: str | Path | Recording
    baseline: Any
    model: Any
    donor_model: Any
    contrast: str | Path | Recording | None
    donor_values: str | Path | Mapping[str, npt.NDArray[Any]] | None
    model_factory: str | None
    output: str | Path | None
    html: str | Path | bool
    overwrite: bool
    staged: Path | None
    strict: bool

    @property
    def names_a_donor(self) -> bool:
        return self.donor_model is not None or self.contrast is not None or self.donor_values is not None


class Analysis:
    """An order while it is carried out."""

    def __init__(self, order: Order, config: Config, kept: Kept, progress: Progress) -> None:
        self._order = order
        self._config = config
        self._kept = kept
        self._progress = progress
        self._warnings: list[str] = []

    def run(self, book: bookkeeping.Book) -> AnalysisResult:
        """Opens, judges, searches and writes; raises as `RCAPipeline.analyze_incident` does."""
        order, config = self._order, self._config
        started = time.perf_counter()
        recording = sources.open_recording(order.incident, config)
        book.opened(recording)
        _require_incident(recording)
        path, page = sources.output_paths(order.output, order.html, recording, config, overwrite=order.overwrite)
        bundle = recording.bundle_id
        with timed("baseline", bundle):
            benign = sources.open_baseline(order.baseline, config, self._kept.baseline)
        bookkeeping.about(baseline=benign.baseline)
        with timed("forensics", bundle):
            forensics = self._judge(recording, benign.baseline)
        with timed("model", bundle):
            model = self._open_model(recording)
        donor = self._open_donor(model, bundle)
        causal = None if model is None else self._search(model, donor, recording, benign, forensics)
        result = AnalysisResult(
            bundle_id=bundle,
            verdict=verdicts.verdict(forensics, causal),
            confidence=confidence(causal),
            execution_time=time.perf_counter() - started,
            anomaly_score=forensics.anomaly_score,
            anomaly_p_value=forensics.p_value,
            compression_metrics=forensics.metrics,
            onset=forensics.onset,
            strongest=forensics.strongest,
            fix_set=causal.fix_set if causal else None,
            alternatives=causal.alternatives if causal else (),
            workarounds=causal.workarounds if causal else (),
            evidence=verdicts.evidence(forensics, causal),
            version_difference=forensics.version_difference,
            incident=summarise_recording(recording),
            environment=describe_environment(
                config, model=model, donor=donor, incident=recording.path, baseline=benign.path
            ),
            warnings=(*forensics.warnings, *self._warnings, *(causal.warnings if causal else ())),
            export_path=str(path),
        )
        self._write(result, path, page, book)
        log_time("analysis", bundle, time.perf_counter() - started, result.verdict)
        return result

    def _judge(self, recording: Recording, baseline: Baseline | None) -> ForensicsResult:
        settings = self._config.modules.cf
        if not settings.enabled:
            return _NO_FORENSICS

        def progress(done: int, total: int) -> None:
            self._progress("forensics", done, total)

        def computed() -> ForensicsResult:
            return streaming.analyze(
                recording, baseline, settings, self._config.streaming, progress=progress, warn=self._warnings.append
            )

        return self._kept.forensics(recording, baseline, settings, computed, progress)

    def _open_model(self, recording: Recording) -> Model | None:
        """The model that is to be repaired; None, with a warning, where there is none to be had."""
        order = self._order
        if not self._config.modules.cca.enabled:
            return None
        if order.model is None and order.model_factory is None:
            model, reason = sources.open_recorded_model(recording, self._config)
            if reason is not None:
                self._warnings.append(reason)
        else:
            model = sources.open_model(order.model, factory=order.model_factory, config=self._config)
        if model is not None:
            mismatch = sources.weights_warning(recording, model, strict=order.strict)
            if mismatch is not None:
                self._warnings.append(mismatch)
        return model

    def _open_donor(self, model: Model | None, bundle: str) -> Model | None:
        order = self._order
        if model is None and order.names_a_donor:
            if not self._config.modules.cca.enabled:
                raise UsageError("a donor, and no search (modules.cca.enabled)", cure="Enable it, or drop the donor")
            raise ModelError("a donor without a model to repair", where=bundle, cure="Pass --model as well")
        if model is None or not order.donor_model:
            return None
        with timed("donor", bundle):
            return sources.open_model(order.donor_model, factory=order.model_factory, config=self._config)

    def _search(
        self,
        model: Model,
        donor: Model | None,
        recording: Recording,
        benign: sources.BenignSource,
        forensics: ForensicsResult,
    ) -> CausalResult:
        from model_forensics import cca  # noqa: PLC0415  (torch loads late)

        order, config = self._order, self._config
        contrast = sources.open_recording(order.contrast, config) if order.contrast else None
        values = sources.open_donor_values(order.donor_values)
        bookkeeping.about(model=model, donor=donor, contrast=contrast)
        with timed("search", recording.bundle_id), cca.memory_limit(config.streaming.stated_max_memory):
            return cca.find_fix_set(
                model,
                recording,
                config=config.modules.cca,
                benign=benign.recordings,
                donor_model=donor,
                contrast=contrast,
                donor_values=values,
                ranking=ranking(forensics),
                rescore=rescorer(recording, benign.baseline, config.modules.cf),
                seed=config.seed,
                timeout_seconds=60 * config.timeout_minutes,
                progress=self._progress,
                recall=self._kept.run,
            )

    def _write(self, result: AnalysisResult, path: Path, page: Path | None, book: bookkeeping.Book) -> None:
        place = self._order.staged or path
        pages = [] if page is None else [Document(page, report.render_html(result), report.REPORT_ROLE)]
        documents = [*pages, Document(place, report.json_text(result, place), report.RESULTS_ROLE)]
        with book.entering(result, place):
            # The result last: one that is there has its page.
            write_together(documents, overwrite=self._order.overwrite)


def _require_incident(recording: Recording) -> None:
    if recording.kind != "incident":
        raise InputRefused(
            f"bundle {recording.bundle_id} is a {recording.kind} recording, not an incident",
            where=recording.path,
            cure="Pass an incident bundle first and benign bundles with --baseline",
        )
