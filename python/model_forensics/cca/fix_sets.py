"""The smallest set of interventions that repairs an incident."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

from model_forensics.cca.choice import Healthy
from model_forensics.cca.controls import reversal, shams
from model_forensics.cca.executor import Members, OutOfTime, SetOutcome
from model_forensics.cca.experiment import Design
from model_forensics.cca.finer import refine
from model_forensics.cca.given import GivenValues
from model_forensics.cca.measure import Laboratory
from model_forensics.cca.prepare import Prepared, prepare
from model_forensics.cca.recall import Recall, anew
from model_forensics.cca.restoration import RECOVERY, Rescore, distribution_restored, output_restored
from model_forensics.cca.search import Hit
from model_forensics.cca.shortlist import Shortlisted
from model_forensics.cca.shuffled import impossible, shuffled
from model_forensics.config import CausalConfig
from model_forensics.errors import UsageError
from model_forensics.models import Model
from model_forensics.types import (
    CausalResult,
    Certificate,
    FixSet,
    FixSetLabel,
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
    donor_values: GivenValues | None = None,
    ranking: Sequence[str] = (),
    rescore: Rescore | None = None,
    seed: int = 0,
    timeout_seconds: float | None = None,
    progress: Progress | None = None,
    recall: Recall = anew,
) -> CausalResult:
    """The smallest set of interventions that makes the incident's failure disappear; see docs/fix-sets.md.

    Args:
        benign: recordings of runs that did not fail: donors (`mean`, and `patch` where they hold the same input) and
            the measure of side effects.
        donor_model: a model of the same architecture that does not fail; preferred donor.
        contrast: one recording whose samples pair with the incident's by order, token for token.
        donor_values: activations to write, by site. At most one of `donor_model`, `contrast` and these.
        ranking: site names, most suspicious first; orders ties and what a timeout leaves out, decides nothing else.
        rescore: forensics on {site: per sample [rows, features]}, all samples of the incident in order; returns the
            anomalous (sample, site) pairs.
        timeout_seconds: for the search; the evidence of what was found until then is still taken.
        progress: called with ("search", sets run, sets scheduled so far).
        recall: keeps runs that did not fail; see `Recall`.

    Raises:
        UsageError: the incident states no failure, the timeout is negative, or donors contradict one another.
        OutputError: outputs cannot be judged.
        InterventionError: no intervention is possible, or a donor does not fit.
        ModelError: the batched forward and plain hooks disagree.
    """
    if timeout_seconds is not None and timeout_seconds < 0:
        raise UsageError(f"a timeout of {timeout_seconds:g} s is in the past", cure="Give 0 or more seconds")
    started = time.monotonic()
    healthy = Healthy(benign, donor_model, contrast, donor_values, recall)
    prepared = prepare(model, incident, config=config, healthy=healthy)
    if not prepared.cases:
        return _unsolved(prepared, None, prepared.warnings)
    design = Design.of(prepared, config, ranking, seed)
    pool, notes = design.pool()
    pool, estimated, more = design.ordered(pool)
    warnings = [*prepared.warnings, *notes, *more]
    laboratory = design.laboratory(pool, benign, donor_model, rescore)
    if design.in_sample:
        warnings.append("the incident has one group: the evidence uses the samples that the search saw")
    if not design.is_material:
        warnings.append(
            f"no component's activations are further than {design.largest_change:.1%} from the donor's: noise decides"
            " these samples, and what flips them is no cause"
        )
    if not pool:
        text = "every intervention equals what the model computes anyway: the donor is not healthier at any component"
        return _unsolved(prepared, _spent(laboratory, config, None, seed), (*warnings, text), design.stated_change)
    executor = laboratory.executor
    deadline = None if timeout_seconds is None else started + timeout_seconds
    if progress is not None:
        executor.progress = lambda done, total: progress("search", done, total)
    searched, (fix_set, alternatives, workarounds, best) = _searched(design, laboratory, estimated, deadline)
    warnings += searched.warnings
    if fix_set is not None:
        fix_set, later = _completed(design, laboratory, fix_set, donor_model, deadline, progress)
        warnings += later
    elif workarounds:
        warnings.append(
            "every set that removes the failure copies what its donor answers: the fault may lie where no candidate is,"
            " such as in an embedding, which takes a reference model to test"
        )
    if searched.found.timed_out:
        warnings.append("the search ran out of time: sets that were not run may be smaller or better")
    return CausalResult(
        replay=prepared.replay,
        fix_set=fix_set,
        alternatives=alternatives,
        workarounds=workarounds,
        best_effect=best,
        spent=_spent(laboratory, config, searched, seed),
        warnings=tuple(warnings),
        largest_change=design.stated_change,
    )


def _completed(
    design: Design,
    laboratory: Laboratory,
    fix: FixSet,
    donor_model: Model | None,
    deadline: float | None,
    progress: Progress | None,
) -> tuple[FixSet, list[str]]:
    """The set with what is measured for the result's fix set alone: finer parts and controls; and warnings."""
    prepared, config, held_out, seed = design.prepared, design.config, design.held_out, design.seed
    executor = laboratory.executor
    interventions = [candidate.intervention for candidate in executor.pool]
    members = tuple(interventions.index(one) for one in fix.interventions)
    found: dict[str, Any] = {
        "shams": shams(executor, members, held_out, laboratory.threshold, seed),
        "reversal": reversal(
            prepared, donor_model, [executor.pool[i] for i in members], held_out, config.max_batch_rows
        ),
    }
    notes = []
    if donor_model is not None and config.refine and design.is_material:
        goal = _goal(laboratory, fix)
        try:
            found["finer"] = refine(
                prepared, donor_model, fix, goal, design.seen, held_out, seed=seed, deadline=deadline
            )
        except OutOfTime:
            notes.append("time ran out while parts of the fix set's components were tried")
    if config.evidence == "full":
        outcome = executor.score(members, held_out)
        found["shuffled"], note = _shuffled(design, fix, outcome, deadline, progress)
        notes += note
    return fix.model_copy(update=found), notes


def _shuffled(
    design: Design, fix: FixSet, outcome: SetOutcome, deadline: float | None, progress: Progress | None
) -> tuple[Shuffled | None, list[str]]:
    reason = impossible(design, fix)
    if reason is not None:
        return None, [f"the search was not repeated with shuffled donors: {reason}"]
    told = None if progress is None else lambda done, total: progress("shuffled donors", done, total)
    found = shuffled(design, fix, outcome, deadline, told)
    if found.p_value is None:
        return found, [f"time ran out after {found.repeats} repeats with shuffled donors: too few for a p-value"]
    return found, []


def _goal(laboratory: Laboratory, fix: FixSet) -> Callable[[SetOutcome], bool]:
    """What parts of this set must do: flip, and restore the donor's output if the set does."""
    if fix.label == "workaround":
        return laboratory.sufficient
    closely = fix.recovery is not None and fix.recovery >= RECOVERY
    restored = output_restored if closely else distribution_restored
    return lambda outcome: laboratory.sufficient(outcome) and restored(outcome)


def _searched(
    design: Design, laboratory: Laboratory, estimated: Sequence[float] | None, deadline: float | None
) -> tuple[Shortlisted, Judged]:
    """The search, and what the evidence says about its sets.

    Where sets restore the samples of the search, and none of them is a cause by the others, other sets that restore
    with a margin are searched: larger ones, as a rule.
    """

    def run(refuted: Collection[Members]) -> tuple[Shortlisted, Judged]:
        laboratory.executor.deadline = deadline
        searched = design.search(laboratory, estimated, refuted)
        laboratory.executor.deadline = None
        return searched, _judge(laboratory, searched, design.config.max_alternatives)

    searched, judged = run(())
    if _has_cause(judged) or not searched.found.restoring or searched.found.timed_out:
        return searched, judged
    refuted = {hit.outcome.members for hit in searched.found.restoring}
    closer, judged_again = run(refuted)
    if _has_cause(judged_again):
        closer.warnings.append(
            f"what restored the samples of the search (sets: {len(refuted)}) is no cause by the held-out ones: others"
            " that restore with a margin were searched, and minimality is about these"
        )
        return closer, judged_again
    searched.found.timed_out |= closer.found.timed_out
    return searched, judged


Judged = tuple[FixSet | None, tuple[FixSet, ...], tuple[FixSet, ...], FixSet | None]


def _has_cause(judged: Judged) -> bool:
    return judged[0] is not None and judged[0].label == "cause"


def _judge(laboratory: Laboratory, searched: Shortlisted, limit: int) -> Judged:
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
    decoder = laboratory.executor.decoder
    generated = 0 if decoder is None else decoder.rows_run
    return laboratory.executor.runner.rows_run + generated + laboratory.explained.rows_run + laboratory.benign.rows_run


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


def _unsolved(
    prepared: Prepared, spent: SearchSpent | None, warnings: Sequence[str], largest_change: float | None = None
) -> CausalResult:
    return CausalResult(
        replay=prepared.replay,
        fix_set=None,
        alternatives=(),
        workarounds=(),
        best_effect=None,
        spent=spent,
        warnings=tuple(warnings),
        largest_change=largest_change,
    )
