"""Scores of intervention sets, and no score without an execution."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from model_forensics.cca.batched import BatchedRunner
from model_forensics.cca.continuations import Continuation, Decoder, Request
from model_forensics.cca.jobs import Job, Logits, relative_error
from model_forensics.cca.pool import Candidate, Sources
from model_forensics.cca.replay import Case
from model_forensics.errors import ModelError
from model_forensics.failure import Outcome

Members = tuple[int, ...]
"""A set as sorted indices into the pool."""

CHECK_EVERY = 16
"""Forwards between self-checks after the first."""
CHECKED_ROWS = 2


class OutOfTime(Exception):
    """The deadline passed before these sets were run; inside `cca` only."""


@dataclass(frozen=True)
class CaseOutcome:
    """What one set does to one case.

    Attributes:
        score: the failure's score; infinite where the edit broke the output (NaN).
        recovery: (fixed − failed)/(donor − failed), None without a donor run that scores better.
        residual: KL(donor ‖ fixed) ÷ KL(donor ‖ failed), at most 1e6; None without a donor run.
    """

    score: float
    outcome: Outcome
    recovery: float | None
    residual: float | None


@dataclass(frozen=True)
class SetOutcome:
    """What one set does, over the cases it was run on."""

    members: Members
    cases: tuple[CaseOutcome, ...]
    failed_scores: tuple[float, ...]

    @property
    def flips(self) -> int:
        return sum(case.outcome == "fixed" for case in self.cases)

    @property
    def suppressed(self) -> int:
        return sum(case.outcome == "suppressed" for case in self.cases)

    @property
    def flip_rate(self) -> float:
        return self.flips / len(self.cases)

    @property
    def score_decrease(self) -> float:
        """Mean over cases of failed − fixed; −inf where an output is broken."""
        return float(np.mean([old - new.score for old, new in zip(self.failed_scores, self.cases, strict=True)]))

    @property
    def recovery(self) -> float | None:
        return _median([case.recovery for case in self.cases])

    @property
    def residual(self) -> float | None:
        return _median([case.residual for case in self.cases])


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None


class Executor:
    """Runs sets over cases, many per forward, and remembers only what was run.

    Every row run, checks included, is in `runner.rows_run`; every distinct set in `combinations`.
    """

    def __init__(
        self,
        runner: BatchedRunner,
        sources: Sources,
        pool: Sequence[Candidate],
        cases: Sequence[Case],
        seed: int,
        decoder: Decoder | None = None,
    ) -> None:
        """
        Args:
            decoder: continues the prompts of `text` failures; None for all others.
        """
        self.runner = runner
        self.sources = sources
        self.pool = list(pool)
        self.cases = list(cases)
        self.decoder = decoder
        self.deadline: float | None = None  # time.monotonic()
        self.progress: Callable[[int, int], None] | None = None
        self.worst_error = 0.0
        self._random = np.random.default_rng([seed, 1])
        self._forwards = 0
        self._done: dict[tuple[Members, int], CaseOutcome] = {}
        self._sets: set[Members] = set()
        self._scheduled: set[Members] = set()

    @property
    def combinations(self) -> int:
        """Distinct sets that were run; the empty set (the replay) is not one."""
        return len(self._sets - {()})

    def score(self, members: Members, cases: Sequence[int]) -> SetOutcome:
        return self.score_many([members], cases)[0]

    def score_many(self, sets: Sequence[Members], cases: Sequence[int]) -> list[SetOutcome]:
        """Run what has not been run yet, then report.

        Args:
            cases: indices into `self.cases`.

        Raises:
            OutOfTime: the deadline passed; what was run stays known.
            ModelError: the batched forward and plain hooks disagree.
            InterventionError: a replacement does not fit.
        """
        wanted = [(members, case) for members in dict.fromkeys(sets) for case in cases]
        todo = [key for key in wanted if key not in self._done]
        self._scheduled.update(members for members, _ in todo)
        jobs = [self.job(members, case) for members, case in todo]
        for batch in self.runner.batches(jobs):
            self._look_at_the_clock()
            self._run([jobs[i] for i in batch], [todo[i] for i in batch])
        return [self._outcome(members, cases) for members in sets]

    def known(self, members: Members, cases: Sequence[int]) -> SetOutcome | None:
        """The outcome, if this set was run on all these cases; runs nothing."""
        if any((members, case) not in self._done for case in cases):
            return None
        return self._outcome(members, cases)

    def job(self, members: Members, case: int) -> Job:
        """The row to run for one set and one case."""
        sample = self.cases[case].sample
        place = self.runner.calls.recording.samples[sample]
        chosen = [self.pool[i] for i in members]
        edits = {c.tap: self.sources.replacement(c.tap, c.intervention, sample) for c in chosen}
        assert len(edits) == len(members), "a set holds one intervention per site"
        return Job(place.call, place.row, edits)

    def _run(self, jobs: Sequence[Job], keys: Sequence[tuple[Members, int]]) -> None:
        logits = self.runner.run(jobs)
        if self._forwards % CHECK_EVERY == 0:
            self._check(jobs, logits)
        self._forwards += 1
        said = self.continued(keys)
        for (members, case), row, continuation in zip(keys, logits, said, strict=True):
            self._done[members, case] = judge(self.cases[case], row, continuation)
            self._sets.add(members)
        if self.progress is not None:
            self.progress(len(self._sets), max(len(self._scheduled), len(self._sets)))

    def continued(self, keys: Sequence[tuple[Members, int]]) -> Sequence[Continuation | None]:
        """What each set and case generates; nothing where the failure is no text."""
        if self.decoder is None:
            return [None] * len(keys)
        requests = [self._request(members, case) for members, case in keys]
        return self.decoder.run(requests, self._look_at_the_clock)  # a long text takes many forwards

    def _look_at_the_clock(self) -> None:
        """
        Raises:
            OutOfTime: the deadline passed.
        """
        if self.deadline is not None and time.monotonic() >= self.deadline:
            raise OutOfTime

    def _request(self, members: Members, case: int) -> Request:
        sample = self.cases[case].sample
        chosen = [self.pool[i] for i in members]
        return Request(
            sample,
            lambda known: {c.tap: self.sources.replacement(c.tap, c.intervention, sample, known) for c in chosen},
        )

    def _check(self, jobs: Sequence[Job], logits: Sequence[Logits]) -> None:
        """Rule 6: the fast path answers to plain hooks, one candidate at a time."""
        count = min(CHECKED_ROWS, len(jobs))
        rows = min(len(jobs), self.runner.max_rows)
        for index in self._random.choice(len(jobs), size=count, replace=False):
            error = relative_error(logits[index], self.runner.plain.run(jobs[index]))
            limit = self.runner.plain.allowed(jobs[index], error, rows)
            if error > limit:
                raise ModelError(
                    f"a batched run differs from the same row run alone by {error:.3g} of the largest logit"
                    f" (limit {limit:.3g})",
                    where=", ".join(tap.name for tap in jobs[index].edits) or "no edit",
                    cure="Rows of a batch must not influence each other: check the model for batch-wide operations,"
                    " or set max_batch_rows to 1",
                )
            self.worst_error = max(self.worst_error, error)

    def _outcome(self, members: Members, cases: Sequence[int]) -> SetOutcome:
        return SetOutcome(
            members,
            tuple(self._done[members, case] for case in cases),
            tuple(self.cases[case].failed_score for case in cases),
        )


def judge(case: Case, logits: Logits, said: Continuation | None = None) -> CaseOutcome:
    """One run of one case, NaN-safe.

    Args:
        said: what the run generates; `text` failures are judged by it.
    """
    if case.text is not None:
        assert said is not None, "a text is judged by what was generated"
        score, outcome = case.text.judge(case.failure, logits, said)
    else:
        score, outcome = case.failure.judge(logits, case.reference)
    if np.isinf(score):
        return CaseOutcome(score, outcome, None, MAX_RESIDUAL if case.donor is not None else None)
    recovery = None
    if case.donor_score is not None and case.donor_score < case.failed_score:
        recovery = (score - case.failed_score) / (case.donor_score - case.failed_score)
    return CaseOutcome(score, outcome, recovery, residual(case, logits))


MAX_RESIDUAL = 1e6


def residual(case: Case, logits: Logits) -> float | None:
    """How far the repaired output still is from the donor's: KL(donor ‖ fixed) ÷ KL(donor ‖ failed).

    0 is the donor's very output and 1 no closer than the failed one. Where the failed output is not finite, one bit
    takes the place of its distance.
    """
    if case.donor is None or not np.isfinite(case.donor).all():
        return None
    if not np.isfinite(logits).all():
        return MAX_RESIDUAL
    return min(case.bits_from_donor(logits) / max(case.failed_distance, 1e-12), MAX_RESIDUAL)
