"""What is searched, what a search found, and the ledger of what was run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from model_forensics.cca.executor import Members, SetOutcome
from model_forensics.types import Minimality

Goal = Callable[[SetOutcome], bool]
Strategy = Literal["greedy", "beam", "random"]


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
        max_size: interventions in a set that is reported, at most.
        explained: share of anomalies explained away by a set that was run, None where it cannot be measured.
        components: per candidate, the component that it is a part of (`L3.attn` of `L3.head5`); empty where every
            candidate is one of its own.
        possible: those of some sets that may be sufficient. Of the others as few cases are run as show that they are
            not; None where every set is run on all cases.
    """

    sites: Sequence[str]
    bits: Sequence[float]
    order: Sequence[int]
    run: Callable[[Sequence[Members]], list[SetOutcome]]
    sufficient: Goal
    restores: Goal | None
    max_size: int
    explained: Callable[[Members], float | None] = lambda members: None
    components: Sequence[str] = ()
    possible: Callable[[Sequence[Members]], list[Members]] | None = None

    def bits_of(self, members: Members) -> float:
        return sum(self.bits[i] for i in members)

    def components_of(self, members: Members) -> int:
        """Components that the set touches: heads or neurons of one count once."""
        names = self.components or self.sites
        return len({names[i] for i in members})


@dataclass(frozen=True)
class Settings:
    """How a problem is searched.

    Attributes:
        strategy: how sets grow; shrinking and exhaustion follow whichever it is.
        beam_width: sets that `beam` keeps of each size.
        stage_sets: sets that one stage may run: the draws of `random`, all sets of one size, all subsets of one set,
            the shrinking of everything and the search for alternatives.
        alternatives: further minimal sets that are looked for, at most.
        seed: of the draws of `random`.
        shrinking, exhausting: stages that a comparison of strategies turns off.
    """

    strategy: Strategy = "greedy"
    beam_width: int = 8
    stage_sets: int = 2500
    alternatives: int = 5
    seed: int = 0
    shrinking: bool = True
    exhausting: bool = True


class Hit(NamedTuple):
    """One set that meets a goal.

    Attributes:
        minimality: the level that holds; see `model_forensics.cca.search.plan`.
        exhausted: every set of the pool up to this size was run.
    """

    outcome: SetOutcome
    minimality: Minimality
    exhausted: int


@dataclass
class Found:
    """What a search found; lists are in order of preference."""

    restoring: list[Hit] = field(default_factory=list)
    flipping: list[Hit] = field(default_factory=list)
    best: SetOutcome | None = None
    timed_out: bool = False


CHUNK = 64
"""Sets between two updates of the ledger, so that a deadline takes no more than these."""


class Ledger:
    """Runs sets and remembers what happened: the only source of knowledge about a set."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self.seen: dict[Members, SetOutcome] = {}
        self._insufficient: set[Members] = set()  # shown by some of the cases

    def run(self, sets: Sequence[Members]) -> list[SetOutcome]:
        """The outcomes, in the order of the sets; none is run twice.

        Raises:
            OutOfTime: the deadline passed; `seen` keeps the chunks that were run.
        """
        missing = [members for members in dict.fromkeys(sets) if members not in self.seen]
        for start in range(0, len(missing), CHUNK):
            outcomes = self._problem.run(missing[start : start + CHUNK])
            self.seen.update((outcome.members, outcome) for outcome in outcomes)
        return [self.seen[members] for members in sets]

    def hits(self, sets: Sequence[Members], goal: Goal) -> list[Members]:
        """Those of the sets that meet the goal, in their order."""
        return [outcome.members for outcome in self.run(sets) if goal(outcome)]

    def hits_of_many(self, sets: Sequence[Members], goal: Goal) -> list[Members]:
        """The same; sets that some cases show to be insufficient are not run on the others, nor are they `seen`."""
        if self._problem.possible is None:
            return self.hits(sets, goal)
        unknown = [m for m in dict.fromkeys(sets) if m not in self.seen and m not in self._insufficient]
        for start in range(0, len(unknown), CHUNK):
            chunk = unknown[start : start + CHUNK]
            self._insufficient.update(set(chunk) - set(self._problem.possible(chunk)))
        return self.hits([members for members in sets if members not in self._insufficient], goal)

    def meets(self, members: Members, goal: Goal) -> bool:
        """Whether this set meets the goal; the empty set is the failing run itself."""
        return bool(members) and bool(self.hits([members], goal))


def without(members: Members, left_out: Iterable[int]) -> Members:
    """The set without these; stays sorted."""
    gone = set(left_out)
    return tuple(m for m in members if m not in gone)
