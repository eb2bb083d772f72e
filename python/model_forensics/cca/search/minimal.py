"""The minimal sets of one goal: grow or shrink to one, find those that it hides, then exhaust what is smaller."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from model_forensics.cca.executor import Members, SetOutcome
from model_forensics.cca.search.drawing import draw
from model_forensics.cca.search.exhausting import all_sets, count_sets, smallest_subsets
from model_forensics.cca.search.growing import Objective, grow
from model_forensics.cca.search.problem import Goal, Hit, Ledger, Problem, Settings
from model_forensics.cca.search.shrinking import everything, shrink
from model_forensics.types import Minimality


class MinimalSets:
    """One search for the minimal sets of one goal; `hits()` may be asked at any time, also after `OutOfTime`."""

    def __init__(self, ledger: Ledger, problem: Problem, settings: Settings, goal: Goal, objective: Objective) -> None:
        self._ledger = ledger
        self._problem = problem
        self._settings = settings
        self._goal = goal
        self._objective = objective
        self._levels: dict[Members, Minimality] = {}
        self._held: Members | None = None  # the smallest set so far that meets the goal, minimal or not
        self._exhausted = 0

    def hits(self) -> list[Hit]:
        """What is known now, without an order. A set larger than allowed is not among it."""
        levels = {m: level for m, level in self._levels.items() if len(m) <= self._problem.max_size}
        if not levels and self._held is not None:
            levels[self._held] = "none"
        return [Hit(self._ledger.seen[m], level, self._exhausted) for m, level in levels.items()]

    def search(self, singles: Sequence[SetOutcome]) -> None:
        """Find them.

        Args:
            singles: every single intervention, run.

        Raises:
            OutOfTime: the deadline passed.
        """
        self._exhausted = 1
        for outcome in singles:
            if self._goal(outcome):
                self._levels[outcome.members] = "cardinality"
        known = list(self._levels)
        if not known:
            known = self._first()
        if self._settings.shrinking and known:
            self._others(known)
        if self._settings.exhausting:
            self._exhaust()
            self._certify()

    # --- one set --------------------------------------------------------------------------------

    def _first(self) -> list[Members]:
        """Minimal sets that the strategy leads to, else that shrinking everything does."""
        grown = self._grown()
        for members in grown:
            self._hold(members)
        if not self._settings.shrinking:
            self._levels.update((members, "none") for members in grown)
            return grown
        if not grown:
            return self._from_everything(frozenset())
        found = [m for members in grown[: 1 + self._settings.alternatives] for m in self._minimised(members)]
        return list(dict.fromkeys(found))

    def _grown(self) -> list[Members]:
        ledger, problem, settings = self._ledger, self._problem, self._settings
        if settings.strategy == "random":
            return draw(ledger, problem, self._goal, settings.stage_sets, settings.seed)
        width = settings.beam_width if settings.strategy == "beam" else 1
        return grow(ledger, problem, self._goal, self._objective, width)

    def _from_everything(self, excluded: frozenset[str]) -> list[Members]:
        for full in everything(self._problem, excluded):
            if self._ledger.meets(full, self._goal):
                return self._minimised(full)
        return []

    def _minimised(self, members: Members) -> list[Members]:
        """Local minima under a set that meets the goal: one, or the smallest of its subsets that do."""
        budget = self._settings.stage_sets
        members, local = shrink(self._ledger, self._problem, members, self._goal, self._hold, budget)
        self._levels[members] = "local" if local else "none"
        if 2 ** len(members) - 2 > budget:
            return [members]
        smaller = smallest_subsets(self._ledger, members, self._goal)
        if smaller:
            del self._levels[members]
        found = smaller or [members]
        self._levels.update((m, "subset") for m in found)
        return found

    def _hold(self, members: Members) -> None:
        if len(members) <= self._problem.max_size and (self._held is None or len(members) <= len(self._held)):
            self._held = members

    # --- those that it hides --------------------------------------------------------------------

    def _others(self, known: list[Members]) -> None:
        """Redundant causes hide one another: shut out one member of each known set, and shrink everything else.

        The tree of Reiter (1987) over sites, breadth first. Where replacing more never hurts it reaches every minimal
        set; elsewhere it may miss some.
        """
        settings, sites = self._settings, self._problem.sites
        start = len(self._ledger.seen)
        queue = deque([frozenset[str]()])
        visited = {frozenset[str]()}
        wanted = len(known) + settings.alternatives
        while queue and len(known) < wanted and len(self._ledger.seen) - start < settings.stage_sets:
            excluded = queue.popleft()
            untouched = [m for m in known if not excluded & {sites[i] for i in m}]
            if not untouched:
                untouched = self._from_everything(excluded)
                known += untouched
            for child in _children(excluded, untouched[:1], sites):
                if child not in visited:
                    visited.add(child)
                    queue.append(child)

    # --- what the claims rest on ----------------------------------------------------------------

    def _exhaust(self) -> None:
        """All sets of each size, up to the smallest known one's."""
        largest = min(map(len, self._levels), default=self._problem.max_size)
        for size in range(2, min(largest, self._problem.max_size) + 1):
            if count_sets(self._problem, size) > self._settings.stage_sets:
                return
            hits = self._ledger.hits_of_many(list(all_sets(self._problem, size)), self._goal)
            self._exhausted = size
            if hits:
                self._levels.update((members, "cardinality") for members in hits)
                return

    def _certify(self) -> None:
        """Raise each set's level to what was run; drop those that hold a smaller one."""
        sets = list(self._levels)
        for members in sets:
            if any(set(other) < set(members) for other in sets):
                del self._levels[members]
            elif len(members) <= self._exhausted + 1 and len(members) == min(map(len, sets)):
                self._levels[members] = "cardinality"


def _children(excluded: frozenset[str], known: Sequence[Members], sites: Sequence[str]) -> Iterator[frozenset[str]]:
    for members in known:
        for member in members:
            yield excluded | {sites[member]}
