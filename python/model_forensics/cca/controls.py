"""What a fix set is held against: sets that resemble it, and its effect run backwards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from model_forensics.cca.batched import BatchedRunner
from model_forensics.cca.calls import Calls
from model_forensics.cca.evidence import clopper_pearson, group_interval, run_all
from model_forensics.cca.executor import Executor, Members, judge
from model_forensics.cca.jobs import Job, Replacement
from model_forensics.cca.pool import Candidate, component_of
from model_forensics.cca.prepare import Prepared
from model_forensics.models import Model
from model_forensics.types import Reversal, Shams

SHAM_SETS = 20
SHAM_DRAWS = 400
SHAM_LAYERS = 2
SHAM_BITS = 2.0


def shams(executor: Executor, members: Members, cases: Sequence[int], threshold: float, seed: int) -> Shams | None:
    """Up to 20 distinct sets that resemble this one, run on these cases; None where nothing resembles a member.

    Args:
        threshold: flip rate from which a set is sufficient.
    """
    sets = list(_sham_sets(executor.pool, members, seed))
    if not sets:
        return None
    # Past the executor, whose count of combinations is that of the search.
    jobs = [executor.job(one, case) for one in sets for case in cases]
    judged = [executor.cases[case] for _ in sets for case in cases]
    flips = [
        judge(case, logits).outcome == "fixed"
        for case, logits in zip(judged, run_all(executor.runner, jobs), strict=True)
    ]
    rates = np.reshape(flips, (len(sets), len(cases))).mean(axis=1)
    sufficient = int((rates >= threshold).sum())
    return Shams(
        sets=len(sets),
        sufficient=sufficient,
        interval=clopper_pearson(sufficient, len(sets)),
        flip_rate=float(rates.mean()),
        highest_flip_rate=float(rates.max()),
        layer_distance=SHAM_LAYERS,
        bits_ratio=SHAM_BITS,
    )


def _sham_sets(pool: Sequence[Candidate], members: Members, seed: int) -> Iterator[Members]:
    components = {component_of(pool[i].tap) for i in members}
    outside = [i for i, one in enumerate(pool) if component_of(one.tap) not in components]
    outside.sort(key=lambda i: str(pool[i].intervention))  # the order of the pool is the search's business
    choices = [[i for i in outside if _resembles(pool[i], pool[member])] for member in members]
    if not all(choices):
        return
    random = np.random.default_rng([seed, 5])
    seen: set[Members] = set()
    for _ in range(SHAM_DRAWS):
        drawn = tuple(sorted(int(random.choice(some)) for some in choices))
        sites = {pool[i].tap.name for i in drawn}
        if len(sites) == len(members) and drawn not in seen:
            seen.add(drawn)
            yield drawn
        if len(seen) == SHAM_SETS:
            return


def _resembles(one: Candidate, member: Candidate) -> bool:
    alike = (one.tap.kind, one.intervention.kind, one.intervention.positions) == (
        member.tap.kind,
        member.intervention.kind,
        member.intervention.positions,
    )
    near = one.tap.layer == member.tap.layer or (
        one.tap.layer is not None
        and member.tap.layer is not None
        and abs(one.tap.layer - member.tap.layer) <= SHAM_LAYERS
    )
    low, high = sorted((one.bits, member.bits))
    return alike and near and high <= SHAM_BITS * low


def reversal(
    prepared: Prepared, donor_model: Model | None, members: Sequence[Candidate], cases: Sequence[int], max_rows: int
) -> Reversal | None:
    """Put what the incident computed at these sites into the donor model's runs on the same inputs.

    None without a donor model, or where its own runs fail.
    """
    if donor_model is None:
        return None
    recording = prepared.calls.recording
    chosen = [case for case in (prepared.cases[i] for i in cases) if case.donor_score is not None]
    chosen = [case for case in chosen if case.donor_score is not None and case.donor_score <= 0]
    if not chosen:
        return None
    calls = Calls(recording, donor_model.device)
    runner = BatchedRunner(donor_model, calls, prepared.runner.position, max_rows)
    jobs = []
    for case in chosen:
        edits = {
            donor_model.sites.get(one.tap.name): Replacement(
                prepared.base.activations[one.tap.name][case.sample], one.intervention.positions
            )
            for one in members
        }
        sample = recording.samples[case.sample]
        jobs.append(Job(sample.call, sample.row, edits))
    outputs = run_all(runner, jobs)
    fails = [
        case.failure.outcome(logits, case.reference) == "failed" for case, logits in zip(chosen, outputs, strict=True)
    ]
    groups = [case.group for case in chosen]
    return Reversal(samples=len(chosen), failures=sum(fails), interval=group_interval(groups, fails, all))
