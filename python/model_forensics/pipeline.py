"""The only place that wires the stages: recording → forensics → fix sets → result."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from model_forensics import bookkeeping, cf, deployment, report, sources, streaming
from model_forensics.bookkeeping import audited_as
from model_forensics.bundle import MemoryRecording, find_bundles
from model_forensics.caching import Kept
from model_forensics.config import Config, ForensicsConfig
from model_forensics.environment import describe_environment, summarise_recording
from model_forensics.errors import ConfigError, InputRefused, ResultsError, UsageError
from model_forensics.files import Document, write_together
from model_forensics.logs import log_time, timed
from model_forensics.triage import numbered, ranking, suitable_workers, triage_bundles
from model_forensics.types import (
    AnalysisResult,
    BatchSummary,
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


_NO_FORENSICS = ForensicsResult(
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


class RCAPipeline:
    """Root cause analysis of incidents.

    Args:
        config: a `Config`, a dictionary of its shape, or None for the defaults.
        progress: told about every stage's steps.
    """

    def __init__(self, config: Config | dict[str, Any] | None = None, *, progress: Progress | None = None) -> None:
        self.config = config if isinstance(config, Config) else Config.from_dict(config or {})
        self._progress = progress or (lambda stage, done, total: None)
        self._kept = Kept(self.config.cache)

    @audited_as("analyze")
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
        html: str | Path | bool = False,
        overwrite: bool = True,
        staged: Path | None = None,
        run: str | None = None,
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
            html: where the report goes; True for beside the JSON, False for none.
            overwrite: replace the output of an earlier analysis.
            staged: where it is written instead, by a caller who moves it to `output` when all is done.
            run: names this analysis in the results ledger, which has it once however often it is begun.
            strict: refuse a model whose weights differ from those recorded.

        Raises:
            UsageError: a donor without a model, or several; an output that is a directory, inside the bundle, or there
                and not to be replaced.
            InputRefused: a named subclass says which input cannot be used.
            StorageError: the result could not be written.
        """
        with bookkeeping.entered(self.config, incident, run) as book:
            return self._analyze(
                book,
                incident,
                baseline,
                model,
                donor_model=donor_model,
                contrast=contrast,
                donor_values=donor_values,
                model_factory=model_factory,
                output=output,
                html=html,
                overwrite=overwrite,
                staged=staged,
                strict=strict,
            )

    def _analyze(
        self,
        book: bookkeeping.Book,
        incident: str | Path | Recording,
        baseline: Any,
        model: Any,
        *,
        donor_model: Any,
        contrast: str | Path | Recording | None,
        donor_values: str | Path | Mapping[str, npt.NDArray[Any]] | None,
        model_factory: str | None,
        output: str | Path | None,
        html: str | Path | bool,
        overwrite: bool,
        staged: Path | None,
        strict: bool,
    ) -> AnalysisResult:
        started = time.perf_counter()
        if model is None and _is_module(baseline):
            baseline, model = None, baseline
        recording = sources.open_recording(incident, self.config)
        book.opened(recording)
        _require_incident(recording)
        path, page = sources.output_paths(output, html, recording, self.config, overwrite=overwrite)
        bundle = recording.bundle_id
        with timed("baseline", bundle):
            benign = sources.open_baseline(baseline, self.config, self._kept.baseline)
        bookkeeping.about(baseline=benign.baseline)
        warnings: list[str] = []
        with timed("forensics", bundle):
            forensics = self._forensics(recording, benign.baseline, warnings)
        with timed("model", bundle):
            opened = self._open_model(recording, model, model_factory, warnings, strict=strict)
        donor = None
        causal = None
        if opened is not None:
            with timed("donor", bundle):
                donor = (
                    sources.open_model(donor_model, factory=model_factory, config=self.config) if donor_model else None
                )
            other = sources.open_recording(contrast, self.config) if contrast else None
            values = sources.open_donor_values(donor_values)
            bookkeeping.about(model=opened, donor=donor, contrast=other)
            with timed("search", bundle):
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
        written = staged or path
        pages = [] if page is None else [Document(page, report.render_html(result), report.REPORT_ROLE)]
        documents = [*pages, Document(written, report.json_text(result, written), report.RESULTS_ROLE)]
        with book.entering(result, written):
            write_together(documents, overwrite=overwrite)  # the result last: one that is there has its page
        log_time("analysis", bundle, time.perf_counter() - started, result.verdict)
        return result

    @audited_as("triage")
    def triage(
        self,
        directory: str | Path,
        *,
        baseline: Any = None,
        sort_by: Literal["anomaly", "size", "date"] = "anomaly",
        workers: int | None = 1,
    ) -> list[TriageEntry]:
        """Ranks the bundles of a directory, most urgent first; a broken bundle is an entry with its error, last.

        Entries with one signature have one group number; `triage.groups_of` sums the groups up.

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
        if not self.config.modules.cf.enabled:
            cure = "Enable it, or sort the directory by other means"
            raise ConfigError("triage ranks by forensics, which is switched off", where="modules.cf.enabled", cure=cure)
        paths = find_bundles(sources.find_bundle(directory, self.config))
        workers = suitable_workers(len(paths)) if workers is None else workers
        if workers < 1:
            raise UsageError(f"workers is {workers}", cure="Give 1 or more, or None")
        fitted = sources.open_baseline(baseline, self.config, self._kept.baseline).baseline
        bookkeeping.about(baseline=fitted)
        entries: list[TriageEntry] = []
        self._progress("triage", 0, len(paths))
        with timed("triage"):
            for entry in triage_bundles(paths, fitted, self.config, workers):
                entries.append(entry)
                self._progress("triage", len(entries), len(paths))
        bookkeeping.about(incidents=[one.content_digest for one in entries if one.content_digest is not None])
        bookkeeping.partly(sum(entry.error is not None for entry in entries), len(entries))
        return numbered(sorted(entries, key=lambda entry: _triage_key(entry, sort_by)))

    @audited_as("batch")
    def batch(
        self,
        directory: str | Path,
        baseline: str | Path | None = None,
        model: str | Path | None = None,
        *,
        output: str | Path,
        donor_model: str | Path | None = None,
        model_factory: str | None = None,
        workers: int | None = None,
        resume: bool = False,
        force: bool = False,
        retry: bool = False,
        html: bool = True,
        strict: bool = False,
    ) -> BatchSummary:
        """Analyses every incident of a directory in worker processes; see docs/batch.md.

        Workers are spawned, so a script must guard its own start with `if __name__ == "__main__"`.

        Args:
            directory: bundles, or a single one; benign recordings among them are passed over.
            baseline, model, donor_model, model_factory, strict: as for `analyze_incident`, as paths or names.
            output: a directory for the ledger, one result an incident and the summary.
            workers: processes; None for as many as suit the machine.
            resume: go on with the batch that is there, if there is one.
            force: forget the batch that is there, and its results.
            retry: with `resume`, also bundles that were refused or poisoned before.
            html: write a page beside each JSON.

        Raises:
            UsageError: a batch is there and neither `resume` nor `force`, or it was started with other settings.
            InputRefused: no bundle is there, the baseline or a model cannot be used, the ledger is damaged.
            WorkerError: workers end before they can start.
            StorageError: disk full, no permission; what is done stays done, and `resume` goes on.
        """
        from model_forensics.batch import Places, run_batch  # noqa: PLC0415
        from model_forensics.commission import Commission  # noqa: PLC0415  (it needs this module)

        commission = Commission(
            config=self.config,
            directory=Path(directory),
            baseline=None if baseline is None else Path(baseline),
            model=None if model is None else str(model),
            donor_model=None if donor_model is None else str(donor_model),
            model_factory=model_factory,
            workers=workers,
            html=html,
            strict=strict,
        )
        summary = run_batch(
            commission.directory,
            Path(output),
            commission.prepare,
            resume=resume,
            force=force,
            retry=retry,
            progress=self._progress,
        )
        bookkeeping.about(files={"summary": Places(Path(output)).summaries[0]})
        bookkeeping.partly(summary.failed, sum(summary.counts.values()))
        return summary

    @audited_as("build-baseline")
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
        with timed("baseline"):
            baseline = cf.Baseline.combine(parts, recordings, self.config.modules.cf)
        baseline.save(Path(output), overwrite=overwrite)
        bookkeeping.about(baseline=baseline, benign=recordings)
        return baseline

    @audited_as("validate-fix")
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
        workaround: int | None = None,
        export_hook: str | Path | None = None,
        export_weights: str | Path | None = None,
        overwrite: bool = False,
    ) -> Validation:
        """Runs a result's proof again, with its configuration. Bundles and donor default to the paths in the result.

        Args:
            workaround: run that one of the result's workarounds, the first is 1, in place of its fix set.
            export_hook: if the proof holds, write the set there as a Python file that needs torch alone.
            export_weights: if the proof holds, write the model there with the set as part of its weights.
            overwrite: replace exports that are there.

        Raises:
            ResultsError: the result has no such set, or the incident is not the one it is about.
            ConfigError: the configuration in the result is not one of this release.
            UsageError: an export would replace something.
        """
        from model_forensics import cca  # noqa: PLC0415  (torch loads late)

        loaded = result if isinstance(result, AnalysisResult) else report.read_json_result(Path(result))
        where = None if isinstance(result, AnalysisResult) else Path(result)
        fix = _chosen(loaded, workaround, where)
        places = deployment.Places.of(export_hook, export_weights, overwrite=overwrite)
        environment = loaded.environment
        if incident is None and environment.incident_path is None:
            raise ResultsError("the result does not say where its incident is", where=where, cure="Pass --incident")
        recording = sources.open_recording(incident or str(environment.incident_path), self.config)
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
        contrast = contrast or _donor_source(fix, "contrast")
        donor_values = donor_values or _donor_source(fix, "given")
        opened = sources.open_model(model, factory=factory, config=self.config)
        bookkeeping.about(incident=recording, baseline=benign.baseline, model=opened, files={"result": where})
        healthy: deployment.Healthy = {
            "benign": benign.recordings,
            "donor_model": sources.open_model(donor_source, factory=factory, config=self.config)
            if donor_source
            else None,
            "contrast": sources.open_recording(contrast, self.config) if contrast else None,
            "donor_values": sources.open_donor_values(donor_values),
        }
        rescore = _rescorer(recording, benign.baseline, modules.cf)
        with timed("validate", recording.bundle_id), cca.memory_limit(self.config.streaming.stated_max_memory):
            measured = cca.validate_fix(
                opened, recording, fix, **healthy, config=modules.cca, rescore=rescore, seed=environment.seed
            )
        validation = _compare(fix, measured)
        if not validation.holds or not places.any():
            return validation
        with timed("export", recording.bundle_id):
            exports = places.export(opened, recording, validation, healthy, modules.cca)
        return validation.model_copy(update={"exports": exports})

    # --- stages -----------------------------------------------------------------------------------

    def _forensics(self, recording: Recording, baseline: Baseline | None, warnings: list[str]) -> ForensicsResult:
        if not self.config.modules.cf.enabled:
            return _NO_FORENSICS
        settings = self.config.modules.cf

        def progress(done: int, total: int) -> None:
            self._progress("forensics", done, total)

        def computed() -> ForensicsResult:
            return streaming.analyze(
                recording, baseline, settings, self.config.streaming, progress=progress, warn=warnings.append
            )

        return self._kept.forensics(recording, baseline, settings, computed, progress)

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

        with cca.memory_limit(self.config.streaming.stated_max_memory):
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


def _rescorer(recording: Recording, baseline: Baseline | None, config: ForensicsConfig) -> Rescore | None:
    """Forensics as a callable for the search: which sites of which repaired run are anomalous?"""
    if baseline is None or not config.enabled:
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
