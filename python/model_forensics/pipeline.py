"""The only place that wires the stages: recording → forensics → fix sets → result."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from model_forensics import cf, report, sources
from model_forensics.bundle import MemoryRecording, find_bundles
from model_forensics.config import Config, ForensicsConfig
from model_forensics.environment import describe_environment, summarise_recording
from model_forensics.errors import InputRefused, ResultsError, UsageError
from model_forensics.streaming import Streaming
from model_forensics.triage import ranking, suitable_workers, triage_bundles
from model_forensics.types import (
    AnalysisResult,
    CausalResult,
    DonorKind,
    Evidence,
    FixSet,
    ForensicsResult,
    Recording,
    TriageEntry,
    Validation,
    Verdict,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import numpy.typing as npt

    from model_forensics.cca import GivenValues
    from model_forensics.cf import Baseline
    from model_forensics.models import Model

Progress = Callable[[str, int, int], None]
"""Called with a stage's name, the steps done and the steps in all (0 when unknown)."""

Rescore = Callable[["Mapping[str, list[npt.NDArray[np.floating]]]"], frozenset[tuple[int, str]]]


class RCAPipeline:
    """Root cause analysis of incidents.

    Args:
        config: a `Config`, a dictionary of its shape, or None for the defaults.
        progress: told about every stage's steps.
        streaming: which recordings forensics read block by block, and in how much memory.
    """

    def __init__(
        self,
        config: Config | dict[str, Any] | None = None,
        *,
        progress: Progress | None = None,
        streaming: Streaming | None = None,
    ) -> None:
        self.config = config if isinstance(config, Config) else Config.from_dict(config or {})
        self._progress = progress or (lambda stage, done, total: None)
        self._streaming = streaming or Streaming()

    def analyze_incident(
        self,
        incident: str | Path | Recording,
        baseline: Any = None,
        model: Any = None,
        *,
        donor_model: Any = None,
        contrast: str | Path | Recording | None = None,
        donor_values: str | Path | Mapping[str, npt.NDArray[Any]] | None = None,
        model_factory: str | None = None,
        output: str | Path | None = None,
        strict: bool = False,
    ) -> AnalysisResult:
        """Finds the cause of one incident and writes the result.

        Args:
            incident: a bundle's path or a recording.
            baseline: a fitted baseline, a benign bundle, a directory of them, recordings, or None. A module handed in
                here is taken as the model, so that `analyze_incident(incident, model)` works.
            model: a directory or hub id, an `nn.Module`, or None for the model that the bundle names.
            donor_model: the version that worked, same forms.
            contrast: a recording whose samples pair with the incident's, in order, token for token.
            donor_values: activations to write, by site: a safetensors file or arrays (docs/fix-sets.md).
            model_factory: "package.module:function" that builds models from their source.
            output: where the JSON goes; by default `output_dir/<bundle id>.json`.
            strict: refuse a model whose weights differ from those recorded.

        Raises:
            UsageError: a donor without a model, or several; an output that is a directory or inside the bundle.
            InputRefused: a named subclass says which input cannot be used.
            StorageError: the result could not be written.
        """
        started = time.perf_counter()
        if model is None and _is_module(baseline):
            baseline, model = None, baseline
        recording = sources.open_recording(incident)
        _require_incident(recording)
        path = sources.output_path(output, recording, self.config)
        benign = sources.open_baseline(baseline, self.config)
        warnings: list[str] = []
        forensics = self._forensics(recording, benign.baseline, warnings)
        opened = self._open_model(recording, model, model_factory, warnings, strict=strict)
        donor = None
        causal = None
        if opened is not None:
            donor = sources.open_model(donor_model, factory=model_factory, config=self.config) if donor_model else None
            other = sources.open_recording(contrast) if contrast else None
            values = sources.open_donor_values(donor_values)
            causal = self._search(opened, recording, benign, donor, other, values, forensics)
        elif donor_model is not None or contrast is not None or donor_values is not None:
            raise UsageError("a donor without a model to repair", cure="Pass --model as well")
        result = AnalysisResult(
            bundle_id=recording.bundle_id,
            verdict=_verdict(forensics, causal),
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
            evidence=_evidence(forensics, causal),
            version_difference=forensics.version_difference,
            incident=summarise_recording(recording),
            environment=describe_environment(
                self.config, model=opened, donor=donor, incident=recording.path, baseline=benign.path
            ),
            warnings=(*forensics.warnings, *warnings, *(causal.warnings if causal else ())),
            export_path=str(path),
        )
        report.write_json(result, path)
        return result

    def triage(
        self,
        directory: str | Path,
        *,
        baseline: Any = None,
        sort_by: Literal["anomaly", "size", "date"] = "anomaly",
        workers: int | None = 1,
    ) -> list[TriageEntry]:
        """Ranks the bundles of a directory, most urgent first; a broken bundle is an entry with its error, last.

        Args:
            directory: bundles, or a single one.
            baseline: as for `analyze_incident`.
            sort_by: anomaly score, size on disk, or when it was recorded.
            workers: processes; None for as many as pay off. More than one are spawned, so a script that asks for them
                must guard its own start with `if __name__ == "__main__"`.

        Raises:
            UsageError: workers below 1.
            InputRefused: no bundle is there, or the baseline cannot be used.
        """
        paths = find_bundles(directory)
        workers = suitable_workers(len(paths)) if workers is None else workers
        if workers < 1:
            raise UsageError(f"workers is {workers}", cure="Give 1 or more, or None")
        fitted = sources.open_baseline(baseline, self.config).baseline
        entries: list[TriageEntry] = []
        self._progress("triage", 0, len(paths))
        for entry in triage_bundles(paths, fitted, self.config.modules.cf, workers):
            entries.append(entry)
            self._progress("triage", len(entries), len(paths))
        return sorted(entries, key=lambda entry: _triage_key(entry, sort_by))

    def build_baseline(
        self, places: str | Path | Sequence[str | Path], output: str | Path, *, overwrite: bool = False
    ) -> Baseline:
        """Fits a baseline and saves it.

        Args:
            places: what to fit: benign bundles, directories of them, and fitted baselines, which stand for the bundles
                that they were fitted from. So baselines are combined and extended, exactly as if fitted at once.
            output: where the baseline goes.
            overwrite: replace a directory that is there, also one of `places` that is a baseline.

        Raises:
            UsageError: the output exists, or would replace or alter what is fitted.
            BaselineError: nothing benign is there, a source of a baseline is missing or altered, or what is there does
                not belong to one model.
            BundleError: a bundle is broken.
        """
        listed = [Path(place) for place in ([places] if isinstance(places, str | Path) else places)]
        parts, recordings = sources.open_benign(listed)
        sources.check_baseline_output(Path(output), listed, recordings, overwrite=overwrite)
        baseline = cf.Baseline.combine(parts, recordings, self.config.modules.cf)
        baseline.save(Path(output), overwrite=overwrite)
        return baseline

    def validate_fix(
        self,
        result: AnalysisResult | str | Path,
        model: Any,
        *,
        incident: str | Path | Recording | None = None,
        baseline: Any = None,
        donor_model: Any = None,
        contrast: str | Path | Recording | None = None,
        donor_values: str | Path | Mapping[str, npt.NDArray[Any]] | None = None,
        model_factory: str | None = None,
    ) -> Validation:
        """Runs a result's proof again, with its configuration. Bundles and donor default to the paths in the result.

        Raises:
            ResultsError: the result has no fix set, or the incident is not the one it is about.
            ConfigError: the configuration in the result is not one of this release.
        """
        from model_forensics import cca  # noqa: PLC0415  (torch loads late)

        loaded = result if isinstance(result, AnalysisResult) else report.read_json_result(Path(result))
        where = None if isinstance(result, AnalysisResult) else result
        if loaded.fix_set is None:
            raise ResultsError("this result has no fix set", where=where, cure="Validate a result that found one")
        environment = loaded.environment
        if incident is None and environment.incident_path is None:
            raise ResultsError("the result does not say where its incident is", where=where, cure="Pass --incident")
        recording = sources.open_recording(incident or str(environment.incident_path))
        if recording.bundle_id != loaded.bundle_id:
            raise ResultsError(
                f"the result is about bundle {loaded.bundle_id}, not {recording.bundle_id}",
                where=recording.path,
                cure="Pass the incident that was analysed",
            )
        factory = model_factory or environment.model_factory
        donor_source = donor_model or environment.donor_source
        modules = Config.from_dict(environment.configuration, where).modules
        config = self.config.model_copy(update={"modules": modules})
        benign = sources.open_baseline(baseline or environment.baseline_path, config)
        contrast = contrast or _donor_source(loaded.fix_set, "contrast")
        donor_values = donor_values or _donor_source(loaded.fix_set, "given")
        measured = cca.validate_fix(
            sources.open_model(model, factory=factory, config=self.config),
            recording,
            loaded.fix_set,
            benign=benign.recordings,
            donor_model=sources.open_model(donor_source, factory=factory, config=self.config) if donor_source else None,
            contrast=sources.open_recording(contrast) if contrast else None,
            donor_values=sources.open_donor_values(donor_values),
            config=modules.cca,
            rescore=_rescorer(recording, benign.baseline, modules.cf),
            seed=environment.seed,
        )
        return _compare(loaded.fix_set, measured)

    # --- stages -----------------------------------------------------------------------------------

    def _forensics(self, recording: Recording, baseline: Baseline | None, warnings: list[str]) -> ForensicsResult:
        if baseline is not None:
            baseline.prepare(self.config.modules.cf)  # so that its memory counts as in use
        return cf.analyze(
            recording,
            baseline,
            self.config.modules.cf,
            memory=self._streaming.memory_for(recording, warnings),
            progress=lambda done, total: self._progress("forensics", done, total),
        )

    def _open_model(
        self, recording: Recording, model: Any, factory: str | None, warnings: list[str], *, strict: bool
    ) -> Model | None:
        if not self.config.modules.cca.enabled:
            return None
        if model is None and factory is None:
            opened, reason = sources.open_recorded_model(recording, self.config)
            if reason is not None:
                warnings.append(reason)
        else:
            opened = sources.open_model(model, factory=factory, config=self.config)
        if opened is not None:
            mismatch = sources.weights_warning(recording, opened, strict=strict)
            if mismatch is not None:
                warnings.append(mismatch)
        return opened

    def _search(
        self,
        model: Model,
        recording: Recording,
        benign: sources.BenignSource,
        donor: Model | None,
        contrast: Recording | None,
        values: GivenValues | None,
        forensics: ForensicsResult,
    ) -> CausalResult:
        from model_forensics import cca  # noqa: PLC0415  (torch loads late)

        return cca.find_fix_set(
            model,
            recording,
            config=self.config.modules.cca,
            benign=benign.recordings,
            donor_model=donor,
            contrast=contrast,
            donor_values=values,
            ranking=ranking(forensics),
            rescore=_rescorer(recording, benign.baseline, self.config.modules.cf),
            seed=self.config.seed,
            timeout_seconds=60 * self.config.timeout_minutes,
            progress=self._progress,
        )


def confidence(causal: CausalResult | None) -> float | None:
    """How much the measured evidence carries, 0 to 1; null when no cause was found.

    The lower bound of the flip rate, times how much of the donor's score is recovered (at most 1), times the share of
    anomalies that the repair explains away where that was measurable. Not yet calibrated as a probability.
    """
    if causal is None or causal.fix_set is None or causal.fix_set.label != "cause":
        return None
    fix = causal.fix_set
    assert fix.recovery is not None, "a cause has a measured recovery"
    explained = 1.0 if fix.explained_away is None else fix.explained_away
    return fix.flip_interval.low * min(1.0, max(0.0, fix.recovery)) * explained


def _verdict(forensics: ForensicsResult, causal: CausalResult | None) -> Verdict:
    if causal is not None:
        if causal.replay.failing == 0:
            return "not_reproduced"
        if causal.fix_set is None:
            return "no_fix_found"
        return "cause_found" if causal.fix_set.label == "cause" else "workaround_found"
    if any(metric.is_anomalous for metric in forensics.metrics):
        return "anomaly_located"
    judged = any(metric.anomaly_score is not None for metric in forensics.metrics)
    return "nothing_anomalous" if judged else "not_judged"


def _evidence(forensics: ForensicsResult, causal: CausalResult | None) -> Evidence:
    if causal is None:
        return Evidence(replay=None, search=None, best_effect=None, onset_agrees=None)
    agrees = None
    if causal.fix_set is not None and forensics.onset is not None:
        layers = {metric.site: metric.layer for metric in forensics.metrics}
        onset_layer = layers.get(forensics.onset.site)
        sites = [intervention.site for intervention in causal.fix_set.interventions]
        known = [layer for layer in map(_layer_of, sites) if layer is not None]
        agrees = forensics.onset.site in sites or (bool(known) and onset_layer == min(known))
    return Evidence(replay=causal.replay, search=causal.spent, best_effect=causal.best_effect, onset_agrees=agrees)


def _layer_of(site: str) -> int | None:
    head = site.split(".", 1)[0]
    return int(head[1:]) if head[:1] == "L" and head[1:].isdigit() else None


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


def _rescorer(recording: Recording, baseline: Baseline | None, config: ForensicsConfig) -> Rescore | None:
    """Forensics as a callable for the search: which sites of which repaired run are anomalous?"""
    if baseline is None:
        return None
    if "arithmetic" in config.compression_methods:  # zlib and gzip would cost most of the time and see the least
        config = config.model_copy(update={"compression_methods": ("arithmetic",)})

    def rescore(activations: Mapping[str, list[npt.NDArray[np.floating]]]) -> frozenset[tuple[int, str]]:
        anomalies: set[tuple[int, str]] = set()
        for index in range(len(recording.samples)):
            run = {site: rows[index] for site, rows in activations.items()}
            metrics = cf.analyze(_as_recording(recording, index, run), baseline, config).metrics
            anomalies |= {(index, metric.site) for metric in metrics if metric.is_anomalous}
        return frozenset(anomalies)

    return rescore


def _as_recording(original: Recording, index: int, run: Mapping[str, npt.NDArray[np.floating]]) -> MemoryRecording:
    """One sample's repaired run, seen as a recording of the same sites."""
    sites = {name: info for name, info in original.sites.items() if name in run}
    # A repaired run of a generation may be shorter or longer than the recorded one.
    tokens = max((len(run[name]) for name in sites), default=original.samples[index].tokens)
    return MemoryRecording(
        samples=[original.samples[index].model_copy(update={"call": 0, "row": 0, "tokens": tokens})],
        sites=sites,
        activations={name: [run[name]] for name in sites},
        kind="incident",
        model=original.model,
        failure=original.failure,
    )


def _triage_key(entry: TriageEntry, sort_by: str) -> tuple[bool, bool, float]:
    value: float | None
    if sort_by == "anomaly":
        value = entry.anomaly_score
    elif sort_by == "size":
        value = entry.bytes
    else:
        value = entry.created_at.timestamp() if entry.created_at else None
    return (entry.error is not None, value is None, -(value or 0.0))


def _is_module(value: Any) -> bool:
    """Whether this is a torch module or a loaded model, told without importing torch."""
    return any(base.__module__.startswith(("torch.nn", "model_forensics.models")) for base in type(value).__mro__)


def _require_incident(recording: Recording) -> None:
    if recording.kind != "incident":
        raise InputRefused(
            f"bundle {recording.bundle_id} is a {recording.kind} recording, not an incident",
            where=recording.path,
            cure="Pass an incident bundle first and benign bundles with --baseline",
        )
