"""The whole search again with the donor's activations dealt out at random: how often does chance find as much?

Under the null hypothesis it does not matter which sample a donor's activations belong to: whatever is written there
repairs as well. Then the search that was done is one of all the deals, and p = (1 + b)/(1 + N) is a valid p-value
whatever the search does (Phipson and Smyth 2010). Deals are drawn uniformly among samples of as many tokens, the true
one included. What an output is compared with stays each sample's own. Kinds of interventions that the fix set does not
use are left out: zeros and means are the same in every deal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from model_forensics.cca.donors import PatchDonor
from model_forensics.cca.executor import OutOfTime, SetOutcome
from model_forensics.cca.experiment import Design
from model_forensics.cca.pool import component_of
from model_forensics.cca.prepare import Prepared
from model_forensics.cca.search import Found
from model_forensics.cca.search.problem import Goal
from model_forensics.types import FixSet, FixSetLabel, Shuffled

REPEATS = 19
"""The fewest with which p can be 0.05."""
JUDGED = 3
"""Sets of each repeat that are run on the held-out cases, smallest first."""


def impossible(design: Design, fix: FixSet) -> str | None:
    """Why no repeat can say anything, or None."""
    if not any(one.kind == "patch" for one in fix.interventions):
        return "it holds no patch, so shuffled donors cannot differ from it"
    if design.in_sample:
        return "the incident has one group of samples, which are not exchangeable"
    classes = _classes(design.prepared)
    groups = {case.sample: case.group for case in design.prepared.cases}
    if not any(len({groups[sample] for sample in members}) > 1 for members in classes):
        return "no two groups have samples of equally many tokens"
    return None


def shuffled(
    design: Design,
    fix: FixSet,
    outcome: SetOutcome,
    deadline: float | None,
    progress: Callable[[int, int], None] | None = None,
) -> Shuffled:
    """Repeat the search 19 times, or until the deadline (`time.monotonic()`); p is null then.

    Args:
        outcome: what the fix set does to the held-out cases.
    """
    repeats = as_good = 0
    taps = {tap.name: tap for tap in design.prepared.taps}
    kinds = tuple(kind for kind in design.config.intervention_types if kind in {one.kind for one in fix.interventions})
    design = replace(design, config=design.config.model_copy(update={"intervention_types": kinds}))
    size = len({component_of(taps[one.site]) for one in fix.interventions})
    goal = _as_well(fix.label, outcome)
    random = np.random.default_rng([design.seed, 6])
    for number in range(REPEATS):
        if progress is not None:
            progress(number, REPEATS)
        try:
            as_good += _as_good(design, _dealt(design.prepared, random), goal, size, deadline)
        except OutOfTime:
            break
        repeats += 1
    p_value = (1 + as_good) / (1 + repeats) if repeats == REPEATS else None
    return Shuffled(repeats=repeats, as_good=as_good, p_value=p_value)


def _as_good(design: Design, prepared: Prepared, goal: Goal, size: int, deadline: float | None) -> bool:
    """Whether the search finds a set of at most `size` components that meets the goal on the held-out cases."""
    design = design.with_prepared(prepared)
    pool, _ = design.pool()
    pool, estimated, _ = design.ordered(pool)
    if not pool:
        return False
    laboratory = design.laboratory(pool)
    executor = laboratory.executor
    executor.deadline = deadline
    found = design.search(laboratory, estimated).found
    if found.timed_out:
        raise OutOfTime
    sets = _smallest(found, lambda members: len({component_of(pool[i].tap) for i in members}), size)
    return any(goal(outcome) for outcome in executor.score_many(sets, design.held_out))


def _as_well(label: FixSetLabel, found: SetOutcome) -> Goal:
    """What a set must do to be as good as this one: flip as many samples and, beside a cause, come as near to the
    healthy output."""

    def holds(outcome: SetOutcome) -> bool:
        near = outcome.residual is not None and found.residual is not None and outcome.residual <= found.residual
        return outcome.flip_rate >= found.flip_rate and (label != "cause" or near)

    return holds


def _smallest(found: Found, components: Callable[[tuple[int, ...]], int], size: int) -> list[tuple[int, ...]]:
    sets = [hit.outcome.members for hit in (*found.restoring, *found.flipping)]
    return sorted((members for members in sets if components(members) <= size), key=components)[:JUDGED]


def _dealt(prepared: Prepared, random: np.random.Generator) -> Prepared:
    """The same experiment with the donor's rows of samples of as many tokens permuted.

    Of texts, what a donor generated goes along with its rows: behind the prompt they are for those tokens only.
    """
    donor = prepared.sources.patch
    assert donor is not None
    source = list(range(len(prepared.calls.recording.samples)))
    for members in _classes(prepared):
        for place, origin in zip(members, random.permutation(members), strict=True):
            source[place] = int(origin)
    rows = {site: tuple(values[source[i]] for i in range(len(values))) for site, values in donor.rows.items()}
    description = donor.description.model_copy(update={"same_input": False})
    spoken = prepared.sources.spoken
    if spoken is not None:
        spoken = replace(spoken, donor=tuple(spoken.donor[origin] for origin in source))
    patch = PatchDonor(description, donor.logits, rows)
    return replace(prepared, sources=replace(prepared.sources, patch=patch, spoken=spoken))


def _classes(prepared: Prepared) -> list[list[int]]:
    """The failing samples, by their number of tokens; of texts, by that of their prompts."""
    spoken, samples = prepared.sources.spoken, prepared.calls.recording.samples
    classes: dict[int, list[int]] = {}
    for case in prepared.cases:
        tokens = samples[case.sample].tokens if spoken is None else spoken.prompts[case.sample]
        classes.setdefault(tokens, []).append(case.sample)
    return list(classes.values())
