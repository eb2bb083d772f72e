"""Searching for the smallest sets: singles, greedy growth, shrinking, subsets, exhaustion of small sizes.

The search knows no model. It asks for sets to be run and reads what happened; nothing about a set is inferred from
other sets (effects are neither additive nor monotone), so every claim below rests on executed sets:

- `cardinality`: every smaller set of the pool was run and misses the goal;
- `subset`: every proper subset was run and misses the goal;
- `local`: every set with one member fewer was run and misses the goal;
- `none`: time ran out before that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from math import comb

from model_forensics.cca.executor import Members, OutOfTime, SetOutcome
from model_forensics.types import Minimality

EXHAUSTIVE_SETS = 1000
"""Sizes are exhausted only while that takes at most so many sets."""
EXHAUSTIVE_SIZE = 3
SUBSET_SIZE = 4
"""All proper subsets are run for sets up to this size."""

Goal = Callable[[SetOutcome], bool]
Objective = Callable[[SetOutcome], tuple[float, ...]]


@dataclass(frozen=True)
class Problem:
    """What is searched.

    Attributes:
        sites: per candidate, its site; a set holds one intervention per site.
        bits: per candidate, bits replaced.
        order: per candidate, execution order of its site.
        run: runs sets; raises `OutOfTime` at the deadline.
        sufficient, restores: the two goals; `restores` implies `sufficient`. `restores` is None without a donor run
            on the same input, which is the only thing that could show restoration.
        explained: share of anomalies explained away by a set that was run, None where it cannot be measured.
    """

    sites: Sequence[str]
    bits: Sequence[float]
    order: Sequence[int]
    run: Callable[[Sequence[Members]], list[SetOutcome]]
    sufficient: Goal
    restores: Goal | None
    max_size: int
    explained: Callable[[Members], float | None] = lambda members: None


@dataclass
class Found:
    """What a search found; lists are in order of preference."""

    restoring: list[tuple[SetOutcome, Minimality]] = field(default_factory=list)
    flipping: list[tuple[SetOutcome, Minimality]] = field(default_factory=list)
    best: SetOutcome | None = None
    timed_out: bool = False


class Search:
    """One search over a problem. `result()` may be called once."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._seen: dict[Members, SetOutcome] = {}
        self._found = Found()

    def result(self) -> Found:
        try:
            self._search()
        except OutOfTime:
            self._found.timed_out = True
        self._rank()
        return self._found

    # --- the plan -------------------------------------------------------------------------------

    def _search(self) -> None:
        problem = self._problem
        singles = self._run([(i,) for i in range(len(problem.sites))])
        if problem.restores is not None:
            restoring = [outcome for outcome in singles if problem.restores(outcome)]
            self._found.restoring = [(outcome, "cardinality") for outcome in restoring]
            if not restoring:
                self._minimal(problem.restores, _closest, self._found.restoring)
        restoring_members = {outcome.members for outcome, _ in self._found.restoring}
        flipping = [o for o in singles if problem.sufficient(o) and o.members not in restoring_members]
        self._found.flipping = [(outcome, "cardinality") for outcome in flipping]
        if not flipping and not restoring_members:
            self._minimal(problem.sufficient, _strongest, self._found.flipping)

    def _minimal(self, goal: Goal, objective: Objective, found: list[tuple[SetOutcome, Minimality]]) -> None:
        """Find smallest sets of two or more members; every step that completes is kept, should time run out."""
        start = self._greedy(goal, objective) or self._from_everything(goal)
        limit = self._problem.max_size
        if start is not None:
            start = self._shrink(start, goal, found)
            limit = min(len(start), limit) if len(start) <= limit else limit
        exhausted = 1
        for size in range(2, min(limit, EXHAUSTIVE_SIZE) + 1):
            if comb(len(self._problem.sites), size) > EXHAUSTIVE_SETS:
                break
            hits = [outcome for outcome in self._run(list(self._sets(size))) if goal(outcome)]
            if hits:
                found[:] = [(outcome, "cardinality") for outcome in hits]
                return
            exhausted = size
        if start is None or len(start) > self._problem.max_size:
            found.clear()
            return
        if exhausted >= len(start) - 1:
            found[:] = [(self._seen[start], "cardinality")]
        elif len(start) <= SUBSET_SIZE:
            self._subsets(start, goal, found)

    def _subsets(self, start: Members, goal: Goal, found: list[tuple[SetOutcome, Minimality]]) -> None:
        """Proper subsets, smallest first: the first that meets the goal is subset-minimal itself."""
        for size in range(1, len(start)):
            hits = [outcome for outcome in self._run(list(combinations(start, size))) if goal(outcome)]
            if hits:
                found[:] = [(outcome, "subset") for outcome in hits]
                return
        found[:] = [(self._seen[start], "subset")]

    # --- the steps ------------------------------------------------------------------------------

    def _run(self, sets: Sequence[Members]) -> list[SetOutcome]:
        outcomes = self._problem.run(sets)
        self._seen.update((outcome.members, outcome) for outcome in outcomes)
        return outcomes

    def _greedy(self, goal: Goal, objective: Objective) -> Members | None:
        """Grow by the best addition until the goal is met; None once nothing improves the objective."""
        current: Members = ()
        reached: tuple[float, ...] | None = None
        while len(current) < self._problem.max_size:
            grown = self._run(list(self._additions(current)))
            if not grown:
                return None
            best = max(grown, key=lambda outcome: (objective(outcome), -self._bits(outcome.members)))
            if reached is not None and objective(best) <= reached:
                return None
            current, reached = best.members, objective(best)
            if goal(best):
                return current
        return None

    def _additions(self, current: Members) -> Iterator[Members]:
        taken = {self._problem.sites[i] for i in current}
        for index, site in enumerate(self._problem.sites):
            if site not in taken:
                yield tuple(sorted((*current, index)))

    def _from_everything(self, goal: Goal) -> Members | None:
        """Where single steps show no signal: replace everything, then keep what the goal needs (QuickXplain).

        For every place in the list of kinds at a site one full set is tried.
        """
        by_site: dict[str, list[int]] = {}
        for index, site in enumerate(self._problem.sites):
            by_site.setdefault(site, []).append(index)
        choices = max((len(members) for members in by_site.values()), default=0)
        for choice in reversed(range(choices)):
            full = tuple(sorted(members[min(choice, len(members) - 1)] for members in by_site.values()))
            if self._meets(full, goal):
                ordered = sorted(full, key=lambda i: (self._problem.bits[i], i), reverse=True)
                return tuple(sorted(self._needed((), False, tuple(ordered), goal)))
        return None

    def _meets(self, members: Members, goal: Goal) -> bool:
        return bool(members) and goal(self._run([tuple(sorted(members))])[0])

    def _needed(self, background: Members, changed: bool, members: Members, goal: Goal) -> Members:
        """QuickXplain (Junker 2004): a part of `members` that with `background` meets the goal."""
        if changed and self._meets(background, goal):
            return ()
        if len(members) == 1:
            return members
        half = len(members) // 2
        first, second = members[:half], members[half:]
        right = self._needed((*background, *first), True, second, goal)
        left = self._needed((*background, *right), bool(right), first, goal)
        return (*left, *right)

    def _shrink(self, members: Members, goal: Goal, found: list[tuple[SetOutcome, Minimality]]) -> Members:
        """Leave one out, the one with most bits first, until no member can go."""
        if self._run([members]) and len(members) <= self._problem.max_size:
            found[:] = [(self._seen[members], "none")]
        while len(members) > 1:
            smaller = [tuple(m for m in members if m != left_out) for left_out in members]
            hits = [outcome.members for outcome in self._run(smaller) if goal(outcome)]
            if not hits:
                break
            members = min(hits, key=lambda kept: (self._bits(kept), kept))
            if len(members) <= self._problem.max_size:
                found[:] = [(self._seen[members], "none")]
        if len(members) <= self._problem.max_size:
            found[:] = [(self._seen[members], "local")]
        return members

    def _sets(self, size: int) -> Iterator[Members]:
        sites = self._problem.sites
        for members in combinations(range(len(sites)), size):
            if len({sites[i] for i in members}) == size:
                yield members

    def _bits(self, members: Members) -> float:
        return sum(self._problem.bits[i] for i in members)

    # --- order ----------------------------------------------------------------------------------

    def _rank(self) -> None:
        problem = self._problem

        def closeness(outcome: SetOutcome) -> tuple[float, ...]:
            explained = problem.explained(outcome.members) if problem.restores is not None else None
            return (
                distance_class(outcome.residual),
                0.0 if explained is None else -round(explained, 2),
                self._bits(outcome.members),
                min(problem.order[i] for i in outcome.members),
                *outcome.members,
            )

        def weaker(outcome: SetOutcome) -> tuple[float, ...]:
            return (
                -outcome.flip_rate,
                distance_class(outcome.residual),
                self._bits(outcome.members),
                min(problem.order[i] for i in outcome.members),
                *outcome.members,
            )

        self._found.restoring.sort(key=lambda item: (len(item[0].members), closeness(item[0])))
        self._found.flipping.sort(key=lambda item: (len(item[0].members), weaker(item[0])))
        if self._seen:
            small = [o for o in self._seen.values() if len(o.members) <= problem.max_size]
            self._found.best = max(
                small,
                key=lambda o: (o.flip_rate, o.score_decrease, -len(o.members), [-i for i in o.members]),
                default=None,
            )


def distance_class(residual: float | None) -> float:
    """Residual distances by order of magnitude, so that rounding noise decides nothing: ≤ 0.1 %, 1 %, 10 %, more."""
    if residual is None:
        return 4.0
    return float(sum(residual > bound for bound in (0.001, 0.01, 0.1)))


def _strongest(outcome: SetOutcome) -> tuple[float, ...]:
    return (outcome.flip_rate, outcome.score_decrease)


def _closest(outcome: SetOutcome) -> tuple[float, ...]:
    """Growing towards restoration: nearer to the donor's output; flips alone lead to late copies of the answer."""
    residual = outcome.residual
    return (-residual if residual is not None else float("-inf"), outcome.flip_rate)
