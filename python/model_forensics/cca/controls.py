"""What a fix set is held against: sets that resemble it, and its effect run backwards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from model_forensics.cca.batched import BatchedRunner
from model_forensics.cca.calls import Calls
from model_forensics.cca.continuations import Decoder, EditsAt, Request
from model_forensics.cca.evidence import clopper_pearson, group_interval, run_all
from model_forensics.cca.executor import Executor, Members, judge
from model_forensics.cca.jobs import Job, Replacement
from model_forensics.cca.pool import Candidate, component_of
from model_forensics.cca.prepare import Prepared
from model_forensics.cca.replay import Case, run_recording
from model_forensics.cca.sequences import Sequences
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
    keys = [(one, case) for one in sets for case in cases]
    outputs = run_all(executor.runner, [executor.job(*key) for key in keys])
    flips = [
        judge(executor.cases[case], logits, said).outcome == "fixed"
        for (_, case), logits, said in zip(keys, outputs, executor.continued(keys), strict=True)
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
    chosen = [case for case in (prepared.cases[i] for i in cases) if case.donor_score is not None]
    chosen = [case for case in chosen if case.donor_score is not None and case.donor_score <= 0]
    if not chosen:
        return None
    if prepared.decoder is not None:
        fails = _texts_fail(prepared, prepared.decoder.on(donor_model), members, chosen)
    else:
        fails = _outputs_fail(prepared, donor_model, members, chosen, max_rows)
    groups = [case.group for case in chosen]
    return Reversal(samples=len(chosen), failures=sum(fails), interval=group_interval(groups, fails, all))


def _outputs_fail(
    prepared: Prepared, donor_model: Model, members: Sequence[Candidate], chosen: Sequence[Case], max_rows: int
) -> list[bool]:
    recording = prepared.calls.recording
    runner = BatchedRunner(donor_model, Calls(recording, donor_model.device), prepared.runner.position, max_rows)
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
    return [
        case.failure.outcome(logits, case.reference) == "failed" for case, logits in zip(chosen, outputs, strict=True)
    ]


def _texts_fail(
    prepared: Prepared, decoder: Decoder, members: Sequence[Candidate], chosen: Sequence[Case]
) -> list[bool]:
    """What the incident computed while it said the failed text is written as long as the donor model says the same."""
    spoken = prepared.sources.spoken
    assert spoken is not None, "texts have continuations"
    failed = {case.sample: case.text.failed for case in prepared.cases if case.text is not None}
    said = tuple(failed.get(sample, ()) for sample in range(len(decoder.prompts)))
    along = [prompt + tokens[:-1] for prompt, tokens in zip(decoder.prompts, said, strict=True)]
    calls = Calls(Sequences(prepared.calls.recording, along), prepared.model.device)
    run = run_recording(prepared.model, calls, [one.tap for one in members], -1)
    incident = replace(spoken, donor=said)

    def at(sample: int) -> EditsAt:
        written = {
            decoder.model.sites.get(one.tap.name): Replacement(
                run.activations[one.tap.name][sample], one.intervention.positions
            )
            for one in members
        }
        return lambda known: {tap: incident.fitted(one, sample, known) for tap, one in written.items()}

    for case in chosen:
        decoder.expect(case.sample, failed[case.sample])
    continued = decoder.run([Request(case.sample, at(case.sample)) for case in chosen])
    return [
        not one.broken and case.text is not None and case.failure.text_fails(case.text.decode(one.tokens))
        for case, one in zip(chosen, continued, strict=True)
    ]
