"""Whether a set brings in whatever its donor answered, and where it does, whether the fault lies before it.

A component through which the whole answer passes repairs any fault before it if it takes a healthy run's activation;
with another run's activation it answers as that run did. So does a component that is damaged itself. What tells them
apart: everything before the set's last member is repaired instead. If that restores the donor's output too, the fault
lies there. If it merely removes the failure, as where several damaged components are the set, that member is damaged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain, islice

import numpy as np
import torch

from model_forensics.cca.batched import BatchedRunner
from model_forensics.cca.calls import recorded_logits
from model_forensics.cca.continuations import Continuation, Decoder, EditsAt, Request
from model_forensics.cca.donors import PatchDonor, benign_places, recorded_rows
from model_forensics.cca.evidence import Members, run_all
from model_forensics.cca.executor import SetOutcome, judge
from model_forensics.cca.jobs import Edits, Job, Logits, Replacement
from model_forensics.cca.pool import Sources
from model_forensics.cca.replay import Case
from model_forensics.cca.restoration import distribution_restored
from model_forensics.models import Tap
from model_forensics.types import CopyCheck, Recording

MIN_CHECKS = 2
"""With one check, a set that answers at random among few classes would be taken for a copy."""
MAX_CHECKS = 32
CHECKS_PER_CASE = 2


def copies(check: CopyCheck | None) -> bool:
    """Whether the output followed the donor in at least half of the checks, of at least two."""
    return check is not None and check.checks >= MIN_CHECKS and 2 * check.copied >= check.checks


@dataclass(frozen=True)
class HealthyRun:
    """A healthy run of some input.

    Attributes:
        tokens: real tokens of the input.
        answer: its largest output, of so many `classes`.
        rows: [rows, features] of a site by name, None where unknown.
    """

    tokens: int
    answer: int
    classes: int
    rows: Callable[[str], torch.Tensor | None]


@dataclass(frozen=True)
class Upstream:
    """Runs with what lies before a set repaired.

    Attributes:
        complete: all of it was, the embedding included.
    """

    outcome: SetOutcome
    complete: bool


def healthy_runs(patch: PatchDonor, incident: Recording, benign: Sequence[Recording]) -> list[HealthyRun]:
    """The donor's runs for the samples of the incident, then the benign samples as recorded."""
    donors = (
        (sample.tokens, logits, partial(_donor_rows, patch, index))
        for index, (sample, logits) in enumerate(zip(incident.samples, patch.logits, strict=True))
    )
    recorded = (  # read one by one: a large vocabulary's outputs are a megabyte each
        (recording.samples[i].tokens, recorded_logits(recording, i), partial(recorded_rows, recording, sample=i))
        for recording, i in benign_places(benign)
    )
    return [
        HealthyRun(tokens, int(np.argmax(logits)), logits.size, rows)
        for tokens, logits, rows in chain(donors, recorded)
        if logits is not None and np.isfinite(logits).all()
    ]


def _donor_rows(patch: PatchDonor, sample: int, site: str) -> torch.Tensor | None:
    return patch.rows[site][sample] if site in patch.rows else None


class Copying:
    """Runs sets with healthy activations of other inputs, and with what lies before them repaired."""

    def __init__(
        self,
        runner: BatchedRunner,
        sources: Sources,
        benign: Sequence[Recording],
        taps: Sequence[Tap],
        seed: int,
        decoder: Decoder | None = None,
    ) -> None:
        """
        Args:
            taps: the sites at which a fault before a set may lie.
            decoder: continues the prompts of `text` failures; None for all others.
        """
        self._runner = runner
        self._sources = sources
        self._benign = benign
        self._taps = taps
        self._seed = seed
        self._decoder = decoder

    @cached_property
    def _runs(self) -> list[HealthyRun]:
        patch = self._sources.patch
        return [] if patch is None else healthy_runs(patch, self._runner.calls.recording, self._benign)

    def check(self, members: Members, cases: Sequence[Case]) -> CopyCheck | None:
        """None where the set holds no patch, or no healthy run of as many tokens gave another answer.

        Up to 32 runs, drawn with the seed, two a case at most.
        """
        if not any(intervention.kind == "patch" for _, intervention in members):
            return None
        random = np.random.default_rng([self._seed, 7])
        order = [cases[i] for i in random.permutation(len(cases))]
        drawn = [
            (case, answer, edits)
            for case in order
            for answer, edits in islice(self._borrowed(members, case, random), CHECKS_PER_CASE)
        ][:MAX_CHECKS]
        if not drawn:
            return None
        outputs = run_all(self._runner, [self._job(case, edits) for case, _, edits in drawn])
        copied = sum(_answers(logits, answer) for logits, (_, answer, _) in zip(outputs, drawn, strict=True))
        check = CopyCheck(checks=len(drawn), copied=copied, upstream_flip_rate=None)
        if not copies(check):
            return check
        upstream = self.upstream(members, cases)
        if upstream is None:
            return check
        outcome = upstream.outcome
        # Where some of what lies before is not known, that it does not restore says nothing.
        restores = distribution_restored(outcome) or (None if not upstream.complete else False)
        found = {"upstream_flip_rate": outcome.flip_rate, "upstream_restores": restores}
        return check.model_copy(update=found)

    def _borrowed(self, members: Members, case: Case, random: np.random.Generator) -> Iterator[tuple[int, Edits]]:
        """(other answer, the set with that run's activations), in random order.

        Another answer is neither a right one nor that of the failing run or of the case's own donor.
        """
        own = [logits for logits in (case.failed, case.donor) if logits is not None and np.isfinite(logits).all()]
        known = {*case.failure.right, *(int(np.argmax(logits)) for logits in own)}
        for index in random.permutation(len(self._runs)):
            run = self._runs[index]
            if run.answer in known or run.tokens != self._tokens(case) or run.classes != case.failed.size:
                continue
            edits = self._edits(members, case, run)
            if edits is not None:
                yield run.answer, edits

    def _edits(self, members: Members, case: Case, run: HealthyRun) -> Edits | None:
        """None where the run lacks a site."""
        edits: dict[Tap, Replacement] = {}
        for tap, intervention in members:
            own = self._sources.replacement(tap, intervention, case.sample)
            rows = run.rows(tap.name) if intervention.kind == "patch" else own.values
            if rows is not None and self._sources.spoken is not None:
                rows = rows[: run.tokens]  # a donor of texts ran on what it generated as well
            if rows is None or rows.shape != own.values.shape:
                return None
            edits[tap] = Replacement(rows, own.positions)
        return edits

    def upstream(self, members: Members, cases: Sequence[Case]) -> Upstream | None:
        """What all that runs before the set's last member does when it is the donor's, and that member is left.

        None where there is nothing before it, or the donor ran on other inputs.
        """
        patch = self._sources.patch
        last = max(tap.order for tap, _ in members)
        samples = [case.sample for case in cases]
        earlier = [tap for tap in self._taps if tap.order < last]
        served = [tap for tap in earlier if patch is not None and patch.serves(tap.name, samples)]
        before = [(tap, self._sources.intervention(tap.name, "patch")) for tap in served]
        if patch is None or not patch.description.same_input or not before:
            return None
        edits = [{t: self._sources.replacement(t, one, sample) for t, one in before} for sample in samples]
        outputs = run_all(self._runner, [self._job(case, edit) for case, edit in zip(cases, edits, strict=True)])
        said = self._continued(before, samples)
        judged = tuple(judge(*one) for one in zip(cases, outputs, said, strict=True))
        outcome = SetOutcome((), judged, tuple(case.failed_score for case in cases))
        return Upstream(outcome, len(served) == len(earlier) and any(tap.kind == "embed" for tap in served))

    def _continued(self, members: Members, samples: Sequence[int]) -> Sequence[Continuation | None]:
        """What each sample's row generates under these interventions; nothing where the failure is no text."""
        if self._decoder is None:
            return [None] * len(samples)

        def at(sample: int) -> EditsAt:
            return lambda known: {t: self._sources.replacement(t, one, sample, known) for t, one in members}

        return self._decoder.run([Request(sample, at(sample)) for sample in samples])

    def _job(self, case: Case, edits: Edits) -> Job:
        place = self._runner.calls.recording.samples[case.sample]
        return Job(place.call, place.row, edits)

    def _tokens(self, case: Case) -> int:
        return self._runner.calls.recording.samples[case.sample].tokens


def _answers(logits: Logits, answer: int) -> bool:
    return bool(np.isfinite(logits).all()) and int(np.argmax(logits)) == answer
