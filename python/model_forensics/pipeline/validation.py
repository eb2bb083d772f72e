"""A result's proof, run again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model_forensics import report
from model_forensics.config import Config
from model_forensics.errors import ResultsError
from model_forensics.logs import timed
from model_forensics.pipeline import bookkeeping, sources
from model_forensics.pipeline.deployment import Healthy, Places
from model_forensics.pipeline.rescoring import rescorer
from model_forensics.types import AnalysisResult, DonorKind, FixSet, Recording, Validation

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass(frozen=True)
class Proof:
    """What to run again, and with what: the arguments of `RCAPipeline.validate_fix`, exports aside."""

    result: AnalysisResult | str | Path
    model: Any
    incident: str | Path | Recording | None
    baseline: Any
    donor_model: Any
    contrast: str | Path | Recording | None
    donor_values: str | Path | Mapping[str, npt.NDArray[Any]] | None
    model_factory: str | None
    workaround: int | None

    def run(self, config: Config, places: Places) -> Validation:
        """Measures the fix set with the result's configuration and, where it holds, exports it.

        Raises as `RCAPipeline.validate_fix` does.
        """
        from model_forensics import cca  # noqa: PLC0415  (torch loads late)

        where = None if isinstance(self.result, AnalysisResult) else Path(self.result)
        result = self.result if isinstance(self.result, AnalysisResult) else report.read_json_result(Path(self.result))
        fix = _chosen(result, self.workaround, where)
        recording = self._open_incident(result, where, config)
        factory = self.model_factory or result.environment.model_factory
        modules = Config.from_dict(result.environment.configuration, where).modules
        settings = config.model_copy(update={"modules": modules})
        benign = sources.open_baseline(self.baseline or result.environment.baseline_path, settings)
        model = sources.open_model(self.model, factory=factory, config=config)
        bookkeeping.about(incident=recording, baseline=benign.baseline, model=model, result=where)
        healthy = self._open_healthy(result, fix, benign, factory, config)
        rescore = rescorer(recording, benign.baseline, modules.cf)
        seed = result.environment.seed
        with timed("validate", recording.bundle_id), cca.memory_limit(config.streaming.stated_max_memory):
            measured = cca.validate_fix(
                model, recording, fix, **healthy, config=modules.cca, rescore=rescore, seed=seed
            )
        validation = _compare(fix, measured)
        if not validation.holds or not places.any():
            return validation
        with timed("export", recording.bundle_id):
            exports = places.export(model, recording, validation, healthy, modules.cca)
        return validation.model_copy(update={"exports": exports})

    def _open_incident(self, result: AnalysisResult, where: Path | None, config: Config) -> Recording:
        source = self.incident or result.environment.incident_path
        if source is None:
            raise ResultsError("the result does not say where its incident is", where=where, cure="Pass --incident")
        recording = sources.open_recording(source, config)
        if recording.bundle_id != result.bundle_id:
            raise ResultsError(
                f"the result is about bundle {result.bundle_id}, not {recording.bundle_id}",
                where=recording.path,
                cure="Pass the incident that was analysed",
            )
        return recording

    def _open_healthy(
        self, result: AnalysisResult, fix: FixSet, benign: sources.BenignSource, factory: str | None, config: Config
    ) -> Healthy:
        """What healthy values come from: what is given, else what the result names."""
        donor = self.donor_model or result.environment.donor_source
        contrast = self.contrast or _donor_source(fix, "contrast")
        return {
            "benign": benign.recordings,
            "donor_model": sources.open_model(donor, factory=factory, config=config) if donor else None,
            "contrast": sources.open_recording(contrast, config) if contrast else None,
            "donor_values": sources.open_donor_values(self.donor_values or _donor_source(fix, "given")),
        }


def _chosen(result: AnalysisResult, workaround: int | None, where: object) -> FixSet:
    """The result's fix set, or the workaround of this number.

    Raises:
        ResultsError: it has none.
    """
    place = None if where is None else str(where)
    if workaround is not None:
        count = len(result.workarounds)
        if not 1 <= workaround <= count:
            raise ResultsError(
                f"this result has {count} workarounds, and number {workaround} is asked for",
                where=place,
                cure="'model-forensics report' lists them; the first is 1",
            )
        return result.workarounds[workaround - 1]
    if result.fix_set is None:
        raise ResultsError("this result has no fix set", where=place, cure="Validate a result that found one")
    return result.fix_set


def _donor_source(fix: FixSet, kind: DonorKind) -> str | None:
    """Where the donor of this kind was; "memory" is no place to look at."""
    donors = [one.donor for one in fix.interventions if one.donor is not None and one.donor.kind == kind]
    return next((donor.source for donor in donors if donor.source != "memory"), None)


def _compare(recorded: FixSet, measured: FixSet) -> Validation:
    if not measured.sufficient:
        reason = f"{measured.flips} of {measured.samples} samples flip now; {recorded.flips} of {recorded.samples} did"
    elif recorded.label == "cause" and measured.label == "answer_copied":
        reason = "the set still flips the failure but merely brings its donor's answer along"
    elif recorded.label == "cause" and measured.label != "cause":
        reason = "the set still flips the failure but no longer restores the computation"
    else:
        reason = f"{measured.flips} of {measured.samples} samples flip"
    holds = measured.sufficient and (recorded.label != "cause" or measured.label == "cause")
    return Validation(holds=holds, reason=reason, recorded=recorded, measured=measured)
