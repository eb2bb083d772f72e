"""The plan of a search: singles, then minimal sets that restore, then minimal sets that only flip.

Nothing about a set is inferred from other sets (effects are neither additive nor monotone), so every claim rests on
executed sets:

- `cardinality`: every smaller set of the pool was run and misses the goal;
- `subset`: every proper subset was run and misses the goal;
- `local`: every set with one member fewer was run and misses the goal;
- `none`: the search ended before that.
"""

from __future__ import annotations

from model_forensics.cca.executor import OutOfTime
from model_forensics.cca.search.growing import closest, strongest
from model_forensics.cca.search.minimal import MinimalSets
from model_forensics.cca.search.problem import Found, Hit, Ledger, Problem, Settings
from model_forensics.cca.search.ranking import best_effect, by_closeness, by_strength


class Search:
    """One search over a problem. `result()` may be called once."""

    def __init__(self, problem: Problem, settings: Settings | None = None) -> None:
        settings = settings or Settings()
        self._problem = problem
        self._ledger = Ledger(problem)
        self._restoring = None
        if problem.restores is not None:
            self._restoring = MinimalSets(self._ledger, problem, settings, problem.restores, closest)
        self._flipping = MinimalSets(self._ledger, problem, settings, problem.sufficient, strongest)

    @property
    def sets_run(self) -> int:
        """Distinct sets that were run."""
        return len(self._ledger.seen)

    def result(self) -> Found:
        timed_out = False
        singles_flip: list[Hit] = []
        try:
            singles = self._ledger.run([(i,) for i in range(len(self._problem.sites))])
            singles_flip = [Hit(o, "cardinality", 1) for o in singles if self._problem.sufficient(o)]
            if self._restoring is not None:
                self._restoring.search(singles)
            if self._restoring is None or not (self._restoring.hits() or singles_flip):
                self._flipping.search(singles)
        except OutOfTime:
            timed_out = True
        restoring = self._restoring.hits() if self._restoring is not None else []
        known = {hit.outcome.members for hit in restoring}
        flipping = [hit for hit in self._flipping.hits() or singles_flip if hit.outcome.members not in known]
        return Found(
            sorted(restoring, key=by_closeness(self._problem)),
            sorted(flipping, key=by_strength(self._problem)),
            best_effect(self._problem, self._ledger),
            timed_out,
        )
