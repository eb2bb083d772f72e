"""What a batch is asked to do, made ready for its workers: settings, baseline, how many of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from model_forensics.batch import Job, Places, Task, has_gpu, model_bytes, suitable_workers
from model_forensics.bundle import is_bundle, load_bundles
from model_forensics.cf import Baseline, is_baseline
from model_forensics.errors import UsageError, WorkerError
from model_forensics.files import sha256_bytes
from model_forensics.pipeline import bookkeeping, sources
from model_forensics.pipeline.analyst import AnalystSetup
from model_forensics.pipeline.caching import Kept

if TYPE_CHECKING:
    from model_forensics.config import Config

LEASES = 2
"""An incident may take this many times `timeout_minutes`, which limits its search alone."""


@dataclass(frozen=True)
class Commission:
    """The arguments of `RCAPipeline.batch` that do not say what to do with an earlier batch."""

    config: Config
    directory: Path
    baseline: Path | None
    model: str | None
    donor_model: str | None
    model_factory: str | None
    workers: int | None
    html: bool
    strict: bool

    def prepare(self, places: Places) -> Job:
        """Fits the baseline, once for all workers and runs of the batch.

        Raises:
            UsageError: the output is inside a bundle; workers below 1.
            BaselineError: nothing benign is there.
        """
        self._check(places)
        baseline_id = self._fit(places)
        count, reason = self._workers()
        return Job(
            start=AnalystSetup(
                config=self.config.model_copy(update={"streaming": self.config.streaming.shared_by(count)}),
                fitted=None if baseline_id is None else places.baseline,
                benign=None if self._benign is None else self._benign.resolve(),
                model=self.model,
                donor_model=self.donor_model,
                model_factory=self.model_factory,
                html=self.html,
                strict=self.strict,
            ),
            settings={
                "baseline": baseline_id,
                "model": self.model,
                "donor model": self.donor_model,
                "model factory": self.model_factory,
                "configuration": self._configuration(),
                "pages": str(self.html),
                "strict": str(self.strict),
            },
            workers=count,
            workers_reason=reason,
            lease_seconds=60 * LEASES * self.config.timeout_minutes,
            poisoned=self._enter_poisoned,
        )

    def _enter_poisoned(self, task: Task, why: str) -> None:
        error = WorkerError(why, where=task.path, cure="Analyse it alone, with more memory or time")
        bookkeeping.enter_refusal(self.config, task.path, task.run, error)

    @property
    def _benign(self) -> Path | None:
        return self.baseline or self.config.baseline_dir

    def _check(self, places: Places) -> None:
        if self.workers is not None and self.workers < 1:
            raise UsageError(f"workers is {self.workers}", cure="Give 1 or more, or None")
        root = places.root.resolve()
        bundle = next((place for place in (root, *root.parents) if is_bundle(place)), None)
        if bundle is not None:
            raise UsageError(f"is inside the bundle {bundle}", where=places.root, cure="Choose a place outside of it")

    def _fit(self, places: Places) -> str | None:
        """The id of the baseline, which is at `places.baseline` then.

        One that an earlier run fitted is taken again where it was fitted from the very bundles that are there now.
        """
        if self._benign is None:
            return None
        if is_baseline(self._benign):
            baseline = Baseline.load(self._benign)
        else:
            recordings = sources.benign_only(load_bundles(self._benign), self._benign)
            earlier = Baseline.load(places.baseline) if places.baseline.exists() else None
            there = {recording.content_digest for recording in recordings}
            if earlier is not None and {source.content_digest for source in earlier.sources or ()} == there:
                return earlier.baseline_id
            baseline = Kept(self.config.cache).baseline(recordings, self.config.modules.cf)
        baseline.save(places.baseline, overwrite=True)
        return baseline.baseline_id

    def _workers(self) -> tuple[int, str]:
        if self.workers is not None:
            return self.workers, "as asked for"
        gpu = self.config.device.startswith("cuda") or (self.config.device == "auto" and has_gpu())
        if not self.config.modules.cca.enabled:
            return suitable_workers(gpu=False, model_bytes=0)
        return suitable_workers(gpu=gpu, model_bytes=model_bytes(self.model, self.donor_model) if self.model else None)

    def _configuration(self) -> str:
        """A digest of everything in the configuration that results depend on."""
        values = self.config.model_dump(mode="json", include={"seed", "device", "timeout_minutes", "modules"})
        return sha256_bytes(json.dumps(values, sort_keys=True).encode())
