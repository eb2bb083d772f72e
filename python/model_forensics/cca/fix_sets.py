"""The two public functions: find the smallest set that repairs an incident, and measure a given set anew."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from model_forensics.cca.controls import reversal, shams
from model_forensics.cca.executor import OutOfTime, SetOutcome
from model_forensics.cca.experiment import laboratory_of, ordered_pool, problem_of, settings_of
from model_forensics.cca.finer import measure_again, refine
from model_forensics.cca.measure import Laboratory
from model_forensics.cca.pool import CAUSE_KINDS, Candidate, build_pool, difference
from model_forensics.cca.prepare import Prepared, prepare
from model_forensics.cca.replay import split_groups
from model_forensics.cca.restoration import Rescore, output_restored
from model_forensics.cca.search import Hit
from model_forensics.cca.shortlist import Shortlisted, search_shortlist
from model_forensics.cca.shuffled import Design, impossible, shuffled
from model_forensics.config import CausalConfig
from model_forensics.errors import InterventionError, UsageError
from model_forensics.models import Model
from model_forensics.types import (
    CausalResult,
    Certificate,
    FixSet,
    FixSetLabel,
    Intervention,
    Recording,
    SearchSpent,
    Shuffled,
)

LABELS: tuple[FixSetLabel, ...] = ("cause", "workaround", "answer_copied")
"""Best first; a set that copies answers is never the result's fix set."""

Progress = Callable[[str, int, int], None]


def find_fix_set(
    model: Model,
    incident: Recording,
    *,
    config: CausalConfig,
    benign: Sequence[Recording] = (),
    donor_model: Model | None = None,
    contrast: Recording | None = None,
    ranking: Sequence[str] = (),
    rescore: Rescore | None = None,
    seed: int = 0,
    timeout_seconds: float | None = None,
    progress: Progress | None = None,
) -> CausalResult:
    """The smallest set of interventions that makes the incident's failure disappear; see docs/fix-sets.md.

    Args:
        benign: recordings of runs that did not fail: donors (`mean`, and `patch` where they hold the same input) and
            the measure of side effects.
        donor_model: a model of the same architecture that does not fail; preferred donor.
        contrast: one recording whose samples pair with the incident's by order.
        ranking: site names, most suspicious first; orders ties and what a timeout leaves out, decides nothing else.
        rescore: forensics on {site: per sample [rows, features]}, all samples of the incident in order; returns the
            anomalous (sample, site) pairs.
        timeout_seconds: for the search; the evidence of what was found until then is still taken.
        progress: called with ("search", sets run, sets scheduled so far).

    Raises:
        UsageError: the incident states no failure, or the timeout is negative.
        OutputError: outputs cannot be judged.
        InterventionError: no intervention is possible, or a donor does not fit.
        ModelError: the batched forward and plain hooks disagree.
    """
    if timeout_seconds is not None and timeout_seconds < 0:
        raise UsageError(f"a timeout of {timeout_seconds:g} s is in the past", cure="Give 0 or more seconds")
    started = time.monotonic()
    prepared = prepare(model, incident, config=config, benign=benign, donor_model=donor_model, contrast=contrast)
    if not prepared.cases:
        return _unsolved(prepared, None, prepared.warnings)
    samples = [case.sample for case in prepared.cases]
    pool, notes = build_pool(
        prepared.taps, config.intervention_types, prepared.sources, prepared.base, samples, ranking
    )
    warnings = (*prepared.warnings, *notes)
    seen, held_out, in_sample = split_groups(prepared.cases, seed)
    pool, estimated, notes = ordered_pool(prepared, pool, seen, ranking, config)
    warnings = (*warnings, *notes)
    laboratory = laboratory_of(prepared, pool, config, benign, donor_model, rescore, held_out, in_sample, seed)
    if in_sample:
        warnings = (*warnings, "the incident has one group: the evidence uses the samples that the search saw")
    if not pool:
        text = "every intervention equals what the model computes anyway: the donor is not healthier at any component"
        return _unsolved(prepared, _spent(laboratory, config, None, seed), (*warnings, text))
    executor = laboratory.executor
    executor.deadline = None if timeout_seconds is None else started + timeout_seconds
    if progress is not None:
        executor.progress = lambda done, total: progress("search", done, total)
    searched = search_shortlist(
        lambda count: problem_of(laboratory, seen, config, count),
        [candidate.tap.name for candidate in pool],
        estimated,
        config.max_pool_sites,
        settings_of(config, seed),
    )
    deadline, executor.deadline = executor.deadline, None
    fix_set, alternatives, workarounds, best = _judge(laboratory, searched, config.max_alternatives)
    warnings = (*warnings, *searched.warnings)
    if fix_set is not None and donor_model is not None and config.refine:
        goal = _goal(laboratory, fix_set)
        try:
            finer = refine(prepared, donor_model, fix_set, goal, seen, held_out, seed=seed, deadline=deadline)
            fix_set = fix_set.model_copy(update={"finer": finer})
        except OutOfTime:
            warnings = (*warnings, "time ran out while parts of the fix set's components were tried")
    if fix_set is not None:
        members = tuple(executor.pool.index(one) for one in _candidates(executor.pool, fix_set))
        resembling = shams(executor, members, held_out, laboratory.threshold, seed)
        reversed_ = reversal(
            prepared, donor_model, [executor.pool[i] for i in members], held_out, config.max_batch_rows
        )
        fix_set = fix_set.model_copy(update={"shams": resembling, "reversal": reversed_})
    elif workarounds:
        warnings = (*warnings, "every set that removes the failure copies what its donor answers")
    if fix_set is not None and config.evidence == "full":
        design = Design(prepared, config, ranking, seen, held_out, in_sample, seed)
        found, notes = _shuffled(design, fix_set, deadline, progress)
        fix_set = fix_set.model_copy(update={"shuffled": found})
        warnings = (*warnings, *notes)
    if searched.found.timed_out:
        warnings = (*warnings, "the search ran out of time: sets that were not run may be smaller or better")
    return CausalResult(
        replay=prepared.replay,
        fix_set=fix_set,
        alternatives=alternatives,
        workarounds=workarounds,
        best_effect=best,
        spent=_spent(laboratory, config, searched, seed),
        warnings=warnings,
    )


def _candidates(pool: Sequence[Candidate], fix: FixSet) -> list[Candidate]:
    return [next(one for one in pool if one.intervention == member) for member in fix.interventions]


def _shuffled(
    design: Design, fix: FixSet, deadline: float | None, progress: Progress | None
) -> tuple[Shuffled | None, tuple[str, ...]]:
    reason = impossible(design, fix)
    if reason is not None:
        return None, (f"the search was not repeated with shuffled donors: {reason}",)
    told = None if progress is None else lambda done, total: progress("shuffled donors", done, total)
    found = shuffled(design, fix, deadline, told)
    if found.p_value is None:
        return found, (f"time ran out after {found.repeats} repeats with shuffled donors: too few for a p-value",)
    return found, ()


def validate_fix(
    model: Model,
    incident: Recording,
    fix_set: FixSet,
    *,
    benign: Sequence[Recording] = (),
    donor_model: Model | None = None,
    contrast: Recording | None = None,
    config: CausalConfig,
    rescore: Rescore | None = None,
    seed: int = 0,
) -> FixSet:
    """The same set, measured anew on the samples that the search with this seed held out.

    `minimality` and `certificate` are carried over (only a search can establish them), except that the level becomes
    `none` when a member turns out to be dispensable. The search is not repeated with shuffled donors.

    Raises:
        InterventionError: no sample fails on replay, or a donor that the set names is not available.
        Others as `find_fix_set`.
    """
    sites = [intervention.site for intervention in fix_set.interventions]
    if len(set(sites)) < len(sites) or not sites:
        raise InterventionError("a fix set holds one intervention per site", cure="Give a fix set of find_fix_set")
    prepared = prepare(
        model, incident, config=config, benign=benign, donor_model=donor_model, contrast=contrast, extra_sites=sites
    )
    if not prepared.cases:
        raise InterventionError(
            "no sample of the incident fails on replay, so there is nothing to repair",
            where=incident.bundle_id,
            cure="Give the model that the incident was recorded with",
        )
    given = [_candidate(prepared, intervention) for intervention in fix_set.interventions]
    pool = [*given, *_others(prepared, config, given)]
    members = tuple(range(len(given)))
    _, held_out, in_sample = split_groups(prepared.cases, seed)
    laboratory = laboratory_of(prepared, pool, config, benign, donor_model, rescore, held_out, in_sample, seed)
    measured = laboratory.fix_set(members, fix_set.minimality)
    update: dict[str, object] = {
        "certificate": fix_set.certificate,
        "shams": shams(laboratory.executor, members, held_out, laboratory.threshold, seed),
        "reversal": reversal(prepared, donor_model, given, held_out, config.max_batch_rows),
        **_without_claim(prepared, fix_set),
    }
    if fix_set.finer is not None and donor_model is not None:
        update["finer"] = measure_again(prepared, donor_model, fix_set, fix_set.finer, held_out, seed=seed)
    measured = measured.model_copy(update=update)
    if len(given) > 1 and _dispensable(measured, laboratory):
        measured = measured.model_copy(update={"minimality": "none"})
    return measured


def _others(prepared: Prepared, config: CausalConfig, given: Sequence[Candidate]) -> list[Candidate]:
    """The candidates of a search besides these, which shams are drawn from."""
    samples = [case.sample for case in prepared.cases]
    pool, _ = build_pool(prepared.taps, config.intervention_types, prepared.sources, prepared.base, samples, ())
    named = {(one.intervention.site, one.intervention.kind) for one in given}
    return [one for one in pool if (one.intervention.site, one.intervention.kind) not in named]


def _without_claim(prepared: Prepared, fix: FixSet) -> dict[str, str]:
    """A set that acts at the scored position alone may merely carry the answer there, so it is no cause."""
    scored = prepared.runner.position
    lengths = {sample.tokens for sample in prepared.calls.recording.samples}
    late = all(
        one.positions is not None and all({p % count for p in one.positions} == {scored % count} for count in lengths)
        for one in fix.interventions
    )
    return {"label": "workaround"} if late else {}


def _dispensable(measured: FixSet, laboratory: Laboratory) -> bool:
    """Whether the set without some member still does what the set is labelled for."""
    members = tuple(range(len(measured.interventions)))
    goal = laboratory.restores if measured.label == "cause" else laboratory.sufficient
    smaller = [tuple(m for m in members if m != left_out) for left_out in members]
    return any(goal(outcome) for outcome in laboratory.executor.score_many(smaller, laboratory.cases))


def _candidate(prepared: Prepared, intervention: Intervention) -> Candidate:
    """The pool entry of one given intervention, with the donor that is available now.

    Raises:
        InterventionError: the donor is missing or another one than the set names.
    """
    taps = {tap.name: tap for tap in prepared.taps}
    if intervention.site not in taps or taps[intervention.site].kind not in CAUSE_KINDS:
        raise InterventionError(
            "the site is a cut through the whole model, or the model does not compute it",
            where=intervention.site,
            cure="Name a component",
        )
    tap = taps[intervention.site]
    found = prepared.sources.intervention(tap.name, intervention.kind)
    named, given = intervention.donor, found.donor
    if named is not None and given is not None:
        digests = named.weights_digest is None or given.weights_digest in (None, named.weights_digest)
        if named.kind != given.kind or named.same_input != given.same_input or not digests:
            raise InterventionError(
                f"the set was measured with donor {named.kind} ({named.source}), and {given.kind}"
                f" ({given.source}) is given",
                where=tap.name,
                cure="Give the same donor: another one is another experiment",
            )
    chosen = intervention.model_copy(update={"donor": given})
    samples = [case.sample for case in prepared.cases]
    bits, _ = difference(tap, chosen, prepared.sources, prepared.base, samples)
    return Candidate(tap, chosen, bits)


def _goal(laboratory: Laboratory, fix: FixSet) -> Callable[[SetOutcome], bool]:
    """What parts of this set must do: flip, and restore the donor's output if the set does."""
    if fix.label == "workaround":
        return laboratory.sufficient
    return lambda outcome: laboratory.sufficient(outcome) and output_restored(outcome)


def _judge(
    laboratory: Laboratory, searched: Shortlisted, limit: int
) -> tuple[FixSet | None, tuple[FixSet, ...], tuple[FixSet, ...], FixSet | None]:
    """(fix set, alternatives, workarounds, best effect), labelled by the evidence; the search's order is kept.

    Only a handful of sets is measured, in an order fixed before the held-out samples were looked at.
    """
    kept, found, forwards = limit + 1, searched.found, _forwards(laboratory)
    chosen = (*found.restoring[:kept], *found.flipping[:kept])
    measured = [_measure(laboratory, hit, searched.candidates, forwards) for hit in chosen]
    by_label = {label: [fix for fix in measured if fix.sufficient and fix.label == label] for label in LABELS}
    causes, workarounds, copied = (by_label[label] for label in LABELS)
    if causes:
        return causes[0], tuple(causes[1:kept]), (*workarounds, *copied)[:limit], None
    if workarounds:
        return workarounds[0], (), (*workarounds[1:], *copied)[:limit], None
    if copied:
        return None, (), tuple(copied[:kept]), None
    if measured:
        return None, (), (), max(measured, key=lambda fix: fix.flip_rate)
    if found.best is not None:
        return None, (), (), laboratory.fix_set(found.best.members, "none")
    return None, (), (), None


def _measure(laboratory: Laboratory, hit: Hit, candidates: int, forwards: int) -> FixSet:
    certificate = Certificate(candidates=candidates, exhausted=hit.exhausted, forwards=forwards)
    measured = laboratory.fix_set(hit.outcome.members, hit.minimality)
    return measured.model_copy(update={"certificate": certificate})


def _forwards(laboratory: Laboratory) -> int:
    """Rows run through the model so far, checks included."""
    return laboratory.executor.runner.rows_run + laboratory.explained.rows_run + laboratory.benign.rows_run


def _spent(laboratory: Laboratory, config: CausalConfig, searched: Shortlisted | None, seed: int) -> SearchSpent:
    executor = laboratory.executor
    inside = searched.candidates if searched is not None else 0
    sites = [list(dict.fromkeys(c.tap.name for c in part)) for part in (executor.pool[:inside], executor.pool[inside:])]
    return SearchSpent(
        strategy=config.search_strategy,
        pool=tuple(sites[0]),
        forwards=_forwards(laboratory),
        combinations=executor.combinations,
        self_check_max_error=executor.worst_error,
        timed_out=searched is not None and searched.found.timed_out,
        seed=seed,
        left_out=len(sites[1]),
        attribution_agreement=None if searched is None else searched.agreement,
        execution=executor.runner.execution,
    )


def _unsolved(prepared: Prepared, spent: SearchSpent | None, warnings: Sequence[str]) -> CausalResult:
    return CausalResult(
        replay=prepared.replay,
        fix_set=None,
        alternatives=(),
        workarounds=(),
        best_effect=None,
        spent=spent,
        warnings=tuple(warnings),
    )
