"""The class that callers use: its methods say what they take and raise, and hand on to the modules that do the work."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from model_forensics import cf
from model_forensics.bundle import find_bundles
from model_forensics.config import Config
from model_forensics.errors import ConfigError, UsageError
from model_forensics.logs import timed
from model_forensics.pipeline import bookkeeping, sources
from model_forensics.pipeline.analysis import Analysis, Order, Progress
from model_forensics.pipeline.bookkeeping import audited_as
from model_forensics.pipeline.caching import Kept
from model_forensics.pipeline.deployment import Places
from model_forensics.pipeline.triage import SortBy, rank, suitable_workers
from model_forensics.pipeline.validation import Proof

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from model_forensics.cf import Baseline
    from model_forensics.types import AnalysisResult, BatchSummary, Recording, TriageEntry, Validation


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
        if model is None and _is_module(baseline):
            baseline, model = None, baseline
        order = Order(
            incident=incident,
            baseline=baseline,
            model=model,
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
        with bookkeeping.entered(self.config, incident, run) as book:
            return Analysis(order, self.config, self._kept, self._progress).run(book)

    @audited_as("triage")
    def triage(
        self,
        directory: str | Path,
        *,
        baseline: Any = None,
        sort_by: SortBy = "anomaly",
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
        return rank(paths, fitted, self.config, workers, sort_by, self._progress)

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
        from model_forensics.batch import run_batch  # noqa: PLC0415
        from model_forensics.pipeline.commission import Commission  # noqa: PLC0415  (it needs this module)

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
        return run_batch(
            commission.directory,
            Path(output),
            commission.prepare,
            resume=resume,
            force=force,
            retry=retry,
            progress=self._progress,
        )

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
        proof = Proof(
            result=result,
            model=model,
            incident=incident,
            baseline=baseline,
            donor_model=donor_model,
            contrast=contrast,
            donor_values=donor_values,
            model_factory=model_factory,
            workaround=workaround,
        )
        return proof.run(self.config, Places.of(export_hook, export_weights, overwrite=overwrite))


def _is_module(value: Any) -> bool:
    """Whether this is a torch module or a loaded model, told without importing torch."""
    return any(base.__module__.startswith(("torch.nn", "model_forensics.models")) for base in type(value).__mro__)
