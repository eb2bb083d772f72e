"""Replaying the recorded run, and the samples of it that fail: the cases every search and every proof is about."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from model_forensics.cca.calls import Calls, recorded_logits
from model_forensics.cca.jobs import Logits, relative_error, tolerance
from model_forensics.cca.plain import scored
from model_forensics.cca.telling import Telling
from model_forensics.errors import OutputError, UsageError
from model_forensics.failure import Failure, log_softmax
from model_forensics.models import Model, Tap, hooks
from model_forensics.models import rows as model_rows
from model_forensics.types import Recording, Replay


@dataclass(frozen=True)
class Run:
    """One run over all calls of a recording, each with its recorded batch composition.

    Attributes:
        logits: per sample, [classes] float64 at the scored position.
        activations: per site, per sample, [rows, features] on the CPU in the model's dtype.
    """

    logits: tuple[Logits, ...]
    activations: dict[str, tuple[torch.Tensor, ...]]


@dataclass(frozen=True)
class Case:
    """One sample that fails on replay.

    Attributes:
        sample: its index in the recording.
        failure: the predicate with the sample's own answers.
        failed: logits of the replayed, unedited run; `failed_score` its score.
        reference: logits of a healthy run on the same input, None where there is none; they say which answer is right.
        donor: logits of the run that the donor's activations come from (recovery is measured against it), or None.
        text: what is compared where the failure is a `text`; all logits are then those behind the tokens that the
            failed and the reference's continuation begin with alike.
    """

    sample: int
    group: str
    failure: Failure
    failed: Logits
    failed_score: float
    reference: Logits | None = None
    donor: Logits | None = None
    donor_score: float | None = None
    text: Telling | None = None

    @cached_property
    def donor_probability(self) -> Logits:
        assert self.donor is not None
        return np.asarray(np.exp(log_softmax(self.donor)))

    @cached_property
    def donor_entropy(self) -> float:
        """Of the donor's output, in nats."""
        assert self.donor is not None
        return -float(self.donor_probability @ log_softmax(self.donor))

    def bits_from_donor(self, logits: Logits) -> float:
        """KL(softmax(donor) ‖ softmax(logits)) in bits, as `failure.kl_bits` has it; both finite.

        Cross entropy less entropy: every set is judged by it, and only one pass over the classes takes long.
        """
        shifted = logits - logits.max()
        # Not `@`: a BLAS starts all its threads for it, which then take the processors from the model.
        cross_entropy = np.log(np.exp(shifted).sum()) - np.einsum("i,i->", self.donor_probability, shifted)
        return float(max(0.0, cross_entropy - self.donor_entropy) / np.log(2))

    @cached_property
    def failed_distance(self) -> float:
        """Bits from the donor's output to the failed one; one bit where that is not finite."""
        return self.bits_from_donor(self.failed) if np.isfinite(self.failed).all() else 1.0


def run_recording(model: Model, calls: Calls, taps: Sequence[Tap], position: int) -> Run:
    """Run every call as recorded and read these sites.

    Raises:
        OutputError: the scored position does not exist in a sample (from `models.rows`).
    """
    recording = calls.recording
    members: dict[int, list[int]] = {}
    for index, sample in enumerate(recording.samples):
        members.setdefault(sample.call, []).append(index)
    logits: dict[int, Logits] = {}
    activations: dict[str, dict[int, torch.Tensor]] = {tap.name: {} for tap in taps}
    for call_index, samples in members.items():
        call = calls[call_index]
        values: dict[str, torch.Tensor] = {}

        def keep(tap: Tap, value: torch.Tensor, values: dict[str, torch.Tensor] = values) -> None:
            values[tap.name] = value.detach().clone()  # live: later operations may change it in place

        with torch.no_grad(), hooks.read(model.module, taps, keep):
            output = scored(model.forward(call.inputs), call, position)
        for index in samples:
            row = recording.samples[index].row
            logits[index] = output[row]
            for name, value in values.items():
                activations[name][index] = model_rows.to_rows(value, call.mask, row).cpu()
    order = range(len(recording.samples))
    return Run(
        tuple(logits[i] for i in order),
        {name: tuple(values[i] for i in order) for name, values in activations.items() if len(values) == len(order)},
    )


def predicate(recording: Recording) -> Failure:
    """The recording's failure.

    Raises:
        UsageError: it has none (a benign bundle).
    """
    if recording.failure is None:
        raise UsageError(
            "the recording states no failure, so there is nothing to repair",
            where=recording.bundle_id,
            cure="Give an incident bundle, recorded with failure=Failure...",
        )
    return recording.failure


def compare(recording: Recording, run: Run, dtype: str | None) -> tuple[Replay, tuple[str, ...]]:
    """The replayed run against the recorded logits; `failing` is left 0 for the caller to fill.

    `reproduced` is false where there are no recorded logits to compare with; a warning says so.

    Raises:
        OutputError: recorded logits are NaN or Inf and the failure is not `nonfinite`.
    """
    errors: list[float] = []
    identical = True
    nonfinite_allowed = predicate(recording).kind == "nonfinite"
    for index, logits in enumerate(run.logits):
        recorded = recorded_logits(recording, index)
        if recorded is None:
            continue
        if not nonfinite_allowed and not np.isfinite(recorded).all():
            raise OutputError(
                f"recorded logits of sample {recording.samples[index].sample_id} hold NaN or Inf",
                where=recording.bundle_id,
                cure="Record the incident with Failure.nonfinite() if that is the failure",
            )
        if recorded.shape != logits.shape:
            raise OutputError(
                f"the model computes {logits.size} outputs and the recording holds {recorded.size}",
                where=recording.bundle_id,
                cure="Give the model that the incident was recorded with",
            )
        errors.append(relative_error(logits, recorded))
        identical = identical and np.array_equal(logits, recorded, equal_nan=True)
    count = len(run.logits)
    if not errors:
        text = "the recording holds no output logits: whether the replay reproduces it could not be judged"
        return _replay(False, False, 0.0, count), (text,)
    limit = tolerance(dtype)
    worst = max(errors)
    warnings = []
    if len(errors) < count:
        warnings.append(f"replay was compared on {len(errors)} of {count} samples; the others hold no output logits")
    if worst > limit:
        warnings.append(
            f"replay departs from the recorded logits by {worst:.3g} of the largest one (limit {limit:.3g})"
        )
    # JSON has no infinity: a NaN in only one of the two runs is reported as the largest float.
    return _replay(worst <= limit, identical, min(worst, sys.float_info.max), count), tuple(warnings)


def _replay(reproduced: bool, identical: bool, error: float, samples: int) -> Replay:
    return Replay(reproduced=reproduced, bit_identical=identical, max_error=error, samples=samples, failing=0)


def failing_cases(recording: Recording, run: Run, references: Sequence[Logits | None]) -> list[Case]:
    """The samples whose replayed output fails, in the order of the recording.

    Args:
        references: per sample, a healthy run's logits on the same input, or None.

    Raises:
        OutputError: an output cannot be judged (NaN and not `nonfinite`, no answers, no reference for `divergence`).
    """
    base = predicate(recording)
    cases = []
    for index, (sample, logits) in enumerate(zip(recording.samples, run.logits, strict=True)):
        failure = base.with_answers(sample.wrong, sample.right)
        score = failure.score(logits, references[index])
        if score > 0:
            cases.append(Case(index, sample.group, failure, logits, score, references[index]))
    return cases


def split_groups(cases: Sequence[Case], seed: int) -> tuple[tuple[int, ...], tuple[int, ...], bool]:
    """Indices of cases for the search and for the evidence, divided by group; true when they are the same ones.

    Half of the groups (rounded down, at least one) go to the search, drawn with `seed`. With one group there is
    nothing to hold out.
    """
    groups = sorted({case.group for case in cases})
    if len(groups) < 2:
        everything = tuple(range(len(cases)))
        return everything, everything, True
    order = np.random.default_rng(seed).permutation(len(groups))
    seen = {groups[i] for i in order[: len(groups) // 2]}
    return _where(cases, seen, True), _where(cases, seen, False), False


def _where(cases: Sequence[Case], groups: Iterable[str], inside: bool) -> tuple[int, ...]:
    return tuple(i for i, case in enumerate(cases) if (case.group in groups) == inside)
