"""Turning a set into a `FixSet`: everything in it was measured by running it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from model_forensics.cca.controls import copies, copy_check
from model_forensics.cca.evidence import BenignEffects, flipped, group_interval, necessity
from model_forensics.cca.executor import Executor, Members, SetOutcome
from model_forensics.cca.restoration import EXPLAINED, Explained, output_restored
from model_forensics.types import CopyCheck, FixSet, FixSetLabel, Intervention, Minimality


@dataclass
class Laboratory:
    """What measures sets.

    Attributes:
        cases: indices of the cases that the evidence is taken on.
        threshold: flip rate from which a set is sufficient.
        same_input: whether a donor run on the same input exists; without it nothing shows restoration.
    """

    executor: Executor
    explained: Explained
    benign: BenignEffects
    cases: Sequence[int]
    in_sample: bool
    threshold: float
    same_input: bool

    def sufficient(self, outcome: SetOutcome) -> bool:
        return outcome.flip_rate >= self.threshold

    def restores(self, outcome: SetOutcome) -> bool:
        """Sufficient, the donor's output restored, and anomalies explained away where that can be measured."""
        if not self.same_input or not self.sufficient(outcome) or not output_restored(outcome):
            return False
        if any(self.executor.pool[i].intervention.kind == "patch" and not self._same(i) for i in outcome.members):
            return False
        share = self.share(outcome.members)
        return share is None or share >= EXPLAINED

    def share(self, members: Members) -> float | None:
        return self.explained.share([(self.executor.pool[i].tap, self.executor.pool[i].intervention) for i in members])

    def fix_set(self, members: Members, minimality: Minimality) -> FixSet:
        """Run the set, the set without each member, and the set on benign samples."""
        pool = self.executor.pool
        without = [tuple(m for m in members if m != left_out) for left_out in members]
        outcome, *reduced = self.executor.score_many([members, *without], self.cases)
        holds = flipped(outcome.cases)
        check = copy_check(self.executor, members, self.cases) if outcome.flips else None
        groups = [self.executor.cases[i].group for i in self.cases]
        chosen: list[Intervention] = [pool[i].intervention for i in members]
        return FixSet(
            interventions=tuple(chosen),
            label=self._label(outcome, check),
            sufficient=self.sufficient(outcome),
            flips=outcome.flips,
            samples=len(self.cases),
            groups=len(set(groups)),
            flip_rate=outcome.flip_rate,
            flip_interval=group_interval(groups, holds, all),
            suppressed=outcome.suppressed,
            in_sample=self.in_sample,
            recovery=outcome.recovery,
            explained_away=self.share(members),
            necessity=necessity(outcome, reduced),
            side_effects=self.benign.measure([(pool[i].tap, pool[i].intervention) for i in members]),
            minimality=minimality,
            bits_replaced=sum(pool[i].bits for i in members),
            copy_check=check,
        )

    def _label(self, outcome: SetOutcome, check: CopyCheck | None) -> FixSetLabel:
        """What restores is a cause also where it can carry another answer in: so does every early component."""
        if self.restores(outcome):
            return "cause"
        return "answer_copied" if copies(check) else "workaround"

    def _same(self, index: int) -> bool:
        donor = self.executor.pool[index].intervention.donor
        return donor is not None and donor.same_input
