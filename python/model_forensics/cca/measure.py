"""Turning a set into a `FixSet`: everything in it was measured by running it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from model_forensics.cca.copying import Copying, copies
from model_forensics.cca.evidence import BenignEffects, flipped, group_interval, necessity
from model_forensics.cca.executor import Executor, Members, SetOutcome
from model_forensics.cca.restoration import EXPLAINED, MARGIN, Explained, distribution_restored, output_restored
from model_forensics.models import Tap
from model_forensics.types import CopyCheck, FixSet, FixSetLabel, Intervention, Minimality


@dataclass
class Laboratory:
    """What measures sets.

    Attributes:
        cases: indices of the cases that the evidence is taken on.
        threshold: flip rate from which a set is sufficient.
        can_restore: whether a donor run on the same input exists and differs by more than noise; else nothing shows
            restoration.
    """

    executor: Executor
    explained: Explained
    benign: BenignEffects
    copying: Copying
    cases: Sequence[int]
    in_sample: bool
    threshold: float
    can_restore: bool
    _known_to_begin: dict[Members, bool] = field(default_factory=dict)

    def sufficient(self, outcome: SetOutcome, *, margin: bool = False) -> bool:
        return outcome.flip_rate >= (1 - MARGIN * (1 - self.threshold) if margin else self.threshold)

    def restores(self, outcome: SetOutcome, *, margin: bool = False) -> bool:
        """Sufficient, the donor's output restored, and the fault lies in the set and not before it: the anomalies are
        explained away, or, where other damage leaves some, repairing what lies before the set does not restore.

        Args:
            margin: so surely that it should hold for other samples too.
        """
        if not self.can_restore or not self.sufficient(outcome, margin=margin):
            return False
        if not distribution_restored(outcome, margin=margin):
            return False
        if any(self.executor.pool[i].intervention.kind == "patch" and not self._same(i) for i in outcome.members):
            return False
        if output_restored(outcome, margin=margin):
            share = self.share(outcome.members)
            if share is None or share >= EXPLAINED:
                return True
        return self._begins(outcome.members)

    def _begins(self, members: Members) -> bool:
        """Whether repairing all that lies before the set is known not to restore, on the samples that the search saw.

        Unknown, and so False, where no donor stands in for all that lies before it, the embedding included. Healthy
        values of the same input leave what works as it is, so that a set of them repairs damage; zeros and means do
        not, and may just as well keep a component from triggering a fault behind it.
        """
        if any(intervention.kind != "patch" for _, intervention in self._interventions(members)):
            return False
        if members not in self._known_to_begin:
            held_out = set() if self.in_sample else set(self.cases)
            seen = [case for index, case in enumerate(self.executor.cases) if index not in held_out]
            upstream = self.copying.upstream(self._interventions(members), seen)
            self._known_to_begin[members] = (
                upstream is not None
                and upstream.complete
                and not (self.sufficient(upstream.outcome) and distribution_restored(upstream.outcome))
            )
        return self._known_to_begin[members]

    def share(self, members: Members) -> float | None:
        return self.explained.share(self._interventions(members))

    def fix_set(self, members: Members, minimality: Minimality) -> FixSet:
        """Run the set, the set without each member, with donors of other answers, and on benign samples."""
        pool = self.executor.pool
        without = [tuple(m for m in members if m != left_out) for left_out in members]
        outcome, *reduced = self.executor.score_many([members, *without], self.cases)
        holds = flipped(outcome.cases)
        cases = [self.executor.cases[i] for i in self.cases]
        groups = [case.group for case in cases]
        chosen = self._interventions(members)
        check = self.copying.check(chosen, cases) if outcome.flips else None
        return FixSet(
            interventions=tuple(intervention for _, intervention in chosen),
            label=self._label(outcome, check, reduced),
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
            side_effects=self.benign.measure(chosen),
            minimality=minimality,
            bits_replaced=sum(pool[i].bits for i in members),
            copy_check=check,
        )

    def _label(self, outcome: SetOutcome, check: CopyCheck | None, reduced: Sequence[SetOutcome]) -> FixSetLabel:
        """A set that copies its donor's answer is a cause only if repairing what lies before it does not restore.

        What lies before its last member may be the set itself: where the others restore these samples, the fault is in
        the set, though the last member is not needed for them.
        """
        copied = check is not None and copies(check)
        upstream = check.upstream_flip_rate if check is not None else None
        flipped_before = upstream is not None and upstream >= self.threshold
        fault_before = copied and flipped_before and check is not None and check.upstream_restores is not False
        if fault_before and len(outcome.members) > 1:
            last = max(outcome.members, key=lambda member: self.executor.pool[member].tap.order)
            fault_before = not any(self.restores(one) for one in reduced if last not in one.members)
        if self.restores(outcome) and not fault_before and not self._late(outcome.members):
            return "cause"
        return "answer_copied" if copied else "workaround"

    def _late(self, members: Members) -> bool:
        """Whether the set acts at the scored position alone: it may merely carry the answer there."""
        runner = self.executor.runner
        lengths = {sample.tokens for sample in runner.calls.recording.samples}
        return all(
            one.positions is not None
            and all({p % count for p in one.positions} == {runner.position % count} for count in lengths)
            for _, one in self._interventions(members)
        )

    def _interventions(self, members: Members) -> list[tuple[Tap, Intervention]]:
        return [(self.executor.pool[i].tap, self.executor.pool[i].intervention) for i in members]

    def _same(self, index: int) -> bool:
        donor = self.executor.pool[index].intervention.donor
        return donor is not None and donor.same_input
