"""The same repair with less: heads, groups of neurons and token positions of its components, as long as it holds.

Only with a reference model, which can be run for sites that no recording holds. A part is looked for inside the
component that was found; a damaged output projection has none, because every part lies before it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from model_forensics.cca.calls import Calls
from model_forensics.cca.executor import Executor, Members, SetOutcome
from model_forensics.cca.pool import Candidate, Sources, difference
from model_forensics.cca.prepare import Prepared
from model_forensics.cca.replay import Run, run_recording
from model_forensics.cca.search.problem import Goal, Ledger, Problem, without
from model_forensics.cca.search.shrinking import shrink
from model_forensics.errors import UnknownSite
from model_forensics.models import Model, Tap
from model_forensics.types import Finer, FixSet, Intervention

GROUPS = 16
"""A group of neurons is split into so many at a time."""
SETS = 500
"""Sets that one step of shrinking may run."""


def refine(
    prepared: Prepared,
    donor_model: Model,
    fix: FixSet,
    goal: Goal,
    seen: Sequence[int],
    held_out: Sequence[int],
    *,
    seed: int,
    deadline: float | None,
) -> Finer | None:
    """Parts of the fix set's components that repair as well; None if it is already as small as it gets.

    Args:
        goal: what has to hold on the `seen` cases.
        held_out: the cases on which the result is measured.
        deadline: `time.monotonic()`; None for none.

    Raises:
        OutOfTime: the deadline passed.
    """
    taps = {one: prepared.model.sites.get(one.site) for one in fix.interventions}
    base, sources = _read(prepared, donor_model, [tap for one, tap in taps.items() if one.kind == "patch"])
    executor = Executor(prepared.runner, sources, [], prepared.cases, seed, prepared.decoder)
    executor.deadline = deadline
    workshop = _Workshop(executor, base, goal, seen)
    whole = tuple(workshop.add(tap, one) for one, tap in taps.items())
    current = whole
    for index in whole:
        if executor.pool[index].intervention.kind == "patch":
            current = _inside(workshop, current, index)
    current = _positions(workshop, current)
    return None if current == whole else _described(workshop, current, executor.score(current, held_out))


def measure_again(
    prepared: Prepared, donor_model: Model, fix: FixSet, finer: Finer, held_out: Sequence[int], *, seed: int
) -> Finer:
    """The same parts of a fix set, run anew on these cases.

    Raises:
        UnknownSite: a part lies in no component that the set patches.
    """
    model = prepared.model
    whole = {one.site: model.sites.get(one.site) for one in fix.interventions}
    patched = [whole[one.site] for one in fix.interventions if one.kind == "patch"]
    base, sources = _read(prepared, donor_model, patched)
    executor = Executor(prepared.runner, sources, [], prepared.cases, seed, prepared.decoder)
    workshop = _Workshop(executor, base, lambda outcome: True, held_out)
    members = tuple(_again(workshop, whole, one) for one in finer.interventions)
    return _described(workshop, members, executor.score(members, held_out))


def _again(workshop: _Workshop, whole: dict[str, Tap], intervention: Intervention) -> int:
    """One part's place in the pool; `L3.neuron64-79` is a slice of the neurons of that layer."""
    site, model, known = intervention.site, workshop.executor.runner.model, workshop.base.activations
    if site in whole:
        return workshop.add(whole[site], intervention)
    group = re.fullmatch(r"L(\d+)\.neuron(\d+)(?:-(\d+))?", site)
    if group is None and site in known and model.sites.get(site).kind == "head":
        return workshop.add(model.sites.get(site), intervention)
    if group is not None and f"L{group[1]}.mlp" in whole:
        neurons = _neurons(model, whole[f"L{group[1]}.mlp"])
        start, stop = int(group[2]), int(group[3] or group[2]) + 1
        if neurons is not None and neurons.name in known and start < stop <= known[neurons.name][0].shape[1]:
            return workshop.group(neurons, start, stop, intervention)
    raise UnknownSite("no component of the fix set holds it", where=site, cure="Analyze the incident again")


@dataclass(frozen=True)
class _Workshop:
    """One refinement: the executor's pool grows by the parts that are tried."""

    executor: Executor
    base: Run
    goal: Goal
    seen: Sequence[int]

    def add(self, tap: Tap, intervention: Intervention) -> int:
        samples = [case.sample for case in self.executor.cases]
        bits, _ = difference(tap, intervention, self.executor.sources, self.base, samples)
        self.executor.pool.append(Candidate(tap, intervention, bits))
        return len(self.executor.pool) - 1

    def group(self, whole: Tap, start: int, stop: int, model: Intervention) -> int:
        """Patch neurons start … stop − 1 of an MLP, whose site is `L3.neuron64-79` or, for one, `L3.neuron64`."""
        name = f"L{whole.layer}.neuron{start}" + (f"-{stop - 1}" if stop - start > 1 else "")
        patch = self.executor.sources.patch
        assert patch is not None
        self.base.activations[name] = tuple(rows[:, start:stop] for rows in self.base.activations[whole.name])
        patch.rows[name] = tuple(None if rows is None else rows[:, start:stop] for rows in patch.rows[whole.name])
        tap = replace(whole, name=name, start=start, stop=stop, features=stop - start)
        return self.add(tap, model.model_copy(update={"site": name}))

    def shrunk(self, members: Members) -> Members | None:
        """A locally minimal part of a set; None if the set does not meet the goal."""
        pool = self.executor.pool
        problem = _problem(self, [candidate.bits for candidate in pool])
        ledger = Ledger(problem)
        if not ledger.meets(members, self.goal):
            return None
        return shrink(ledger, problem, members, self.goal, lambda kept: None, SETS)[0]


def _problem(workshop: _Workshop, bits: Sequence[float]) -> Problem:
    return Problem(
        sites=[candidate.intervention.site for candidate in workshop.executor.pool],
        bits=bits,
        order=[],
        run=lambda sets: workshop.executor.score_many(sets, workshop.seen),
        sufficient=workshop.goal,
        restores=None,
        max_size=len(bits),
    )


# --- parts of components ------------------------------------------------------------------------


def _inside(workshop: _Workshop, current: Members, index: int) -> Members:
    """Heads or neurons in place of one component; the component itself where these do not do."""
    candidate = workshop.executor.pool[index]
    model = workshop.executor.runner.model
    rest = without(current, [index])
    if candidate.tap.kind == "attn":
        parts = [workshop.add(h, _at(candidate.intervention, h.name)) for h in _heads(model, candidate.tap)]
        found = workshop.shrunk((*rest, *parts)) if parts else None
        return current if found is None or set(parts) <= set(found) else found
    whole = _neurons(model, candidate.tap)
    if whole is None:
        return current
    spans = [(0, int(workshop.base.activations[whole.name][0].shape[1]))]
    while any(stop - start > 1 for start, stop in spans):
        pieces = [piece for span in spans for piece in _split(*span)]
        groups = {workshop.group(whole, *piece, candidate.intervention): piece for piece in pieces}
        found = workshop.shrunk(tuple(sorted((*rest, *groups))))
        if found is None or set(groups) <= set(found):
            return current
        current, rest = found, without(found, groups)
        spans = [piece for number, piece in groups.items() if number in found]
    return current


def _heads(model: Model, tap: Tap) -> list[Tap]:
    return [other for other in model.sites.taps if other.kind == "head" and other.layer == tap.layer]


def _neurons(model: Model, tap: Tap) -> Tap | None:
    """All neurons of an MLP as one site; None where there is no such place."""
    if tap.kind != "mlp":
        return None
    try:
        first = model.sites.get(f"L{tap.layer}.neuron0")
    except UnknownSite:  # a mixture of experts
        return None
    return replace(first, name=f"L{tap.layer}.neurons", index=None, start=None, stop=None, features=0)


def _split(start: int, stop: int) -> Iterator[tuple[int, int]]:
    count = min(GROUPS, stop - start)
    for part in range(count):
        yield start + (stop - start) * part // count, start + (stop - start) * (part + 1) // count


def _at(intervention: Intervention, site: str) -> Intervention:
    return intervention.model_copy(update={"site": site})


def _read(prepared: Prepared, donor_model: Model, patched: Sequence[Tap]) -> tuple[Run, Sources]:
    """The base run and the sources with the parts of these components, as both models compute them."""
    model, patch = prepared.model, prepared.sources.patch
    parts = [part for tap in patched for part in (*_heads(model, tap), _neurons(model, tap)) if part is not None]
    position = prepared.runner.position
    ours = run_recording(model, prepared.calls, parts, position)
    theirs = run_recording(donor_model, Calls(prepared.donor_recording, donor_model.device), parts, position)
    base = Run(prepared.base.logits, {**prepared.base.activations, **ours.activations})
    if patch is not None:
        patch = replace(patch, rows={**patch.rows, **theirs.activations})
    return base, replace(prepared.sources, patch=patch)


# --- positions ----------------------------------------------------------------------------------


def _positions(workshop: _Workshop, current: Members) -> Members:
    """The whole set at fewer token positions, the same in all samples; these must have equally many tokens."""
    executor = workshop.executor
    chosen = [executor.pool[i] for i in current]
    samples = executor.runner.calls.recording.samples
    told = {samples[case.sample].tokens for case in executor.cases}
    lengths = {r.shape[0] for c in chosen for r in _rows_of_cases(workshop, c.tap)}
    if len(lengths) != 1 or lengths != told or lengths == {1}:
        return current
    tokens = lengths.pop()
    made: dict[Members, Members] = {tuple(range(tokens)): current}

    def restricted(positions: Members) -> Members:
        if positions not in made:
            edits = [(c.tap, c.intervention.model_copy(update={"positions": positions})) for c in chosen]
            made[positions] = tuple(workshop.add(tap, intervention) for tap, intervention in edits)
        return made[positions]

    def run(sets: Sequence[Members]) -> list[SetOutcome]:
        outcomes = executor.score_many([restricted(positions) for positions in sets], workshop.seen)
        return [replace(outcome, members=positions) for outcome, positions in zip(outcomes, sets, strict=True)]

    problem = replace(_problem(workshop, [1.0] * tokens), run=run, sites=[str(p) for p in range(tokens)])
    everywhere = tuple(range(tokens))
    kept, _ = shrink(Ledger(problem), problem, everywhere, workshop.goal, lambda found: None, SETS)
    return restricted(kept)


def _rows_of_cases(workshop: _Workshop, tap: Tap) -> Iterator[Tensor]:
    for case in workshop.executor.cases:
        yield workshop.base.activations[tap.name][case.sample]


def _described(workshop: _Workshop, members: Members, outcome: SetOutcome) -> Finer:
    chosen = [workshop.executor.pool[i] for i in members]
    return Finer(
        interventions=tuple(candidate.intervention for candidate in chosen),
        flip_rate=outcome.flip_rate,
        samples=len(outcome.cases),
        recovery=outcome.recovery,
        bits_replaced=sum(candidate.bits for candidate in chosen),
    )
