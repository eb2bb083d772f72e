"""What is known about one set after running it on samples that the search did not see."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from scipy.special import betaincinv  # scipy.stats has it too, and takes most of a second to load

from model_forensics.cca.batched import BatchedRunner
from model_forensics.cca.calls import Calls, recorded_logits
from model_forensics.cca.donors import PatchDonor, benign_places, recorded_rows, reference_donor
from model_forensics.cca.executor import CaseOutcome, SetOutcome
from model_forensics.cca.jobs import Edits, Job, Logits, Replacement
from model_forensics.cca.pool import Sources
from model_forensics.cca.recall import anew
from model_forensics.failure import kl_bits
from model_forensics.models import Model, Tap
from model_forensics.types import Interval, Intervention, Recording, SideEffects

MAX_SAMPLES = 64
"""Benign samples that side effects are measured on: enough for an upper bound of 6 % when none changes."""

Members = Sequence[tuple[Tap, Intervention]]


def clopper_pearson(successes: int, trials: int, level: float = 0.95) -> Interval:
    """Exact two-sided binomial interval (Clopper and Pearson 1934), from the quantiles of the beta distribution.

    No trials give [0, 1]: nothing is known.

    Raises:
        ValueError: successes are negative or more than the trials.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes in {trials} trials")
    tail = (1 - level) / 2
    low = 0.0 if successes == 0 else float(betaincinv(successes, trials - successes + 1, tail))
    high = 1.0 if successes == trials else float(betaincinv(successes + 1, trials - successes, 1 - tail))
    return Interval(low=low, high=high, level=level)


def group_interval(groups: Sequence[str], holds: Sequence[bool], combine: Callable[[Iterable[bool]], bool]) -> Interval:
    """Interval over groups, which are independent, instead of samples, which are not.

    Args:
        combine: `all` when a group counts if all its samples do, `any` when one suffices.
    """
    by_group: dict[str, list[bool]] = {}
    for group, value in zip(groups, holds, strict=True):
        by_group.setdefault(group, []).append(value)
    return clopper_pearson(sum(combine(values) for values in by_group.values()), len(by_group))


def flipped(cases: Sequence[CaseOutcome]) -> list[bool]:
    return [case.outcome == "fixed" for case in cases]


def necessity(full: SetOutcome, without: Sequence[SetOutcome]) -> tuple[float, ...]:
    """Flip rate lost when a member is left out; negative when the rest works better alone."""
    return tuple(full.flip_rate - outcome.flip_rate for outcome in without)


class BenignEffects:
    """What sets do to benign samples, compared with what was recorded for them."""

    def __init__(
        self, model: Model, benign: Sequence[Recording], sources: Sources, donor_model: Model | None, max_rows: int
    ) -> None:
        self._sources = sources
        self._donor_model = donor_model
        places = benign_places(benign)[:MAX_SAMPLES]
        recordings = [recording for recording in benign if any(recording is place[0] for place in places)]
        self._kept = [[i for r, i in places if r is recording and _judgeable(r, i)] for recording in recordings]
        self._runners = [BatchedRunner(model, Calls(r, model.device), _position(r), max_rows) for r in recordings]
        self._plain: dict[tuple[int, int], Logits] = {}

    @property
    def rows_run(self) -> int:
        return sum(runner.rows_run for runner in self._runners)

    def measure(self, members: Members) -> SideEffects | None:
        """None without benign samples that hold finite logits, or where a patch has no donor on a benign input.

        Patches write what the same donor computes on that benign input: the donor model's run, for benign samples the
        sample's own recorded activations, given values where they are for every token of every input.
        """
        changed: list[bool] = []
        groups: list[str] = []
        before = 0
        distances: list[float] = []
        for number, runner in enumerate(self._runners):
            recording = runner.calls.recording
            for index, plain, fixed in self._runs(number, members):
                recorded = recorded_logits(recording, index)
                assert recorded is not None
                changed.append(_changed(recorded, fixed))
                before += _changed(recorded, plain)
                groups.append(recording.samples[index].group)
                # An output that the set breaks is infinitely far; the number of JSON nearest to it stands in.
                distances.append(kl_bits(recorded, fixed) if np.isfinite(fixed).all() else float(np.finfo(float).max))
        if not changed:
            return None
        return SideEffects(
            samples=len(changed),
            changed=sum(changed),
            changed_without_fix=before,
            changed_rate=sum(changed) / len(changed),
            interval=group_interval(groups, changed, any),
            kl_mean_bits=float(np.mean(distances)) if max(distances) < np.finfo(float).max else max(distances),
            kl_max_bits=max(distances),
        )

    def _runs(self, number: int, members: Members) -> list[tuple[int, Logits, Logits]]:
        """(sample, logits without, logits with the set) for the samples where the set can be applied."""
        runner = self._runners[number]
        recording = runner.calls.recording
        patched = [tap for tap, intervention in members if intervention.kind == "patch"]
        donor = None
        if patched and self._donor_model is not None:
            donor = reference_donor(self._donor_model, runner.calls, patched, runner.position, anew)
        found = {index: self._edits(recording, index, members, donor) for index in self._kept[number]}
        edits = {index: edit for index, edit in found.items() if edit is not None}
        missing = [index for index in edits if (number, index) not in self._plain]
        for index, logits in zip(missing, run_all(runner, [_job(recording, i, {}) for i in missing]), strict=True):
            self._plain[number, index] = logits
        fixed = run_all(runner, [_job(recording, index, edit) for index, edit in edits.items()])
        return [(index, self._plain[number, index], logits) for index, logits in zip(edits, fixed, strict=True)]

    def _edits(
        self, recording: Recording, sample: int, members: Members, donor: PatchDonor | None
    ) -> dict[Tap, Replacement] | None:
        edits: dict[Tap, Replacement] = {}
        for tap, intervention in members:
            if intervention.kind != "patch":
                edits[tap] = self._sources.replacement(tap, intervention, sample)
                continue
            rows = donor.rows[tap.name][sample] if donor is not None else self._donor_rows(recording, tap, sample)
            if rows is None:
                return None
            edits[tap] = Replacement(rows, intervention.positions)
        return edits

    def _donor_rows(self, recording: Recording, tap: Tap, sample: int) -> torch.Tensor | None:
        """What the donor of `patch` computed on this benign input. A benign sample is its own healthy run; a contrast
        and a sample that was named ran on other inputs, so there is nothing of theirs to write.
        """
        patch = self._sources.patch
        if patch is None or (patch.description.kind == "benign_sample" and patch.description.same_input):
            return recorded_rows(recording, tap.name, sample)
        return patch.anywhere.get(tap.name)


def run_all(runner: BatchedRunner, jobs: Sequence[Job]) -> list[Logits]:
    """Logits of all jobs, in their order."""
    results: dict[int, Logits] = {}
    for batch in runner.batches(jobs):
        results.update(zip(batch, runner.run([jobs[i] for i in batch]), strict=True))
    return [results[i] for i in range(len(jobs))]


def _job(recording: Recording, sample: int, edits: Edits) -> Job:
    return Job(recording.samples[sample].call, recording.samples[sample].row, edits)


def _position(recording: Recording) -> int:
    return -1 if recording.failure is None else recording.failure.position


def _judgeable(recording: Recording, sample: int) -> bool:
    logits = recorded_logits(recording, sample)
    return logits is not None and bool(np.isfinite(logits).all())


def _changed(recorded: Logits, logits: Logits) -> bool:
    return not np.isfinite(logits).all() or int(np.argmax(recorded)) != int(np.argmax(logits))
