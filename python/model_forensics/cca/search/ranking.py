"""Which set is preferred: fewer components, closer to the donor's run, fewer bits, earlier; in this order."""

from __future__ import annotations

from collections.abc import Callable

from model_forensics.cca.executor import SetOutcome
from model_forensics.cca.search.problem import Hit, Ledger, Problem

Key = tuple[float, ...]


def by_closeness(problem: Problem) -> Callable[[Hit], Key]:
    """Among sets that restore: smaller, then the donor's output and the baseline's anomalies decide."""

    def key(hit: Hit) -> Key:
        outcome = hit.outcome
        explained = problem.explained(outcome.members)
        return (
            *_size(problem, outcome),
            distance_class(outcome.residual),
            0.0 if explained is None else -round(explained, 2),
            *_last(problem, outcome),
        )

    return key


def by_strength(problem: Problem) -> Callable[[Hit], Key]:
    """Among sets that only flip: smaller, then the flip rate."""

    def key(hit: Hit) -> Key:
        outcome = hit.outcome
        return (
            *_size(problem, outcome),
            -outcome.flip_rate,
            distance_class(outcome.residual),
            *_last(problem, outcome),
        )

    return key


def best_effect(problem: Problem, ledger: Ledger) -> SetOutcome | None:
    """The set of an allowed size that comes nearest to removing the failure; None if nothing was run."""
    small = [outcome for outcome in ledger.seen.values() if len(outcome.members) <= problem.max_size]
    return max(
        small,
        key=lambda o: (o.flip_rate, o.score_decrease, -len(o.members), [-i for i in o.members]),
        default=None,
    )


def distance_class(residual: float | None) -> float:
    """Residual distances by order of magnitude, so that rounding noise decides nothing: ≤ 0.1 %, 1 %, 10 %, more."""
    if residual is None:
        return 4.0
    return float(sum(residual > bound for bound in (0.001, 0.01, 0.1)))


def _size(problem: Problem, outcome: SetOutcome) -> Key:
    return (problem.components_of(outcome.members), len(outcome.members))


def _last(problem: Problem, outcome: SetOutcome) -> Key:
    members = outcome.members
    return (problem.bits_of(members), min(problem.order[i] for i in members), *members)
