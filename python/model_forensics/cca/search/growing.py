"""Growing sets one intervention at a time. It needs a partial signal, and stops where nothing moves the score."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from model_forensics.cca.executor import Members, SetOutcome
from model_forensics.cca.search.problem import Goal, Ledger, Problem

Objective = Callable[[SetOutcome], tuple[float, ...]]

DIGITS = 4
"""Decimals of an objective that count, so that rounding noise is no signal."""


def grow(ledger: Ledger, problem: Problem, goal: Goal, objective: Objective, width: int) -> list[Members]:
    """Sets of the first size at which one meets the goal; empty once no addition improves on the set it was made to.

    Args:
        objective: larger is better; one of those that `NOTHING` knows.
        width: sets that are kept of each size; 1 is greedy growth.
    """
    kept: dict[Members, tuple[float, ...]] = {(): NOTHING[objective]}
    for _ in range(problem.max_size):
        parents = [(larger, reached) for members, reached in kept.items() for larger in _additions(problem, members)]
        outcomes = {outcome.members: outcome for outcome in ledger.run(list(dict.fromkeys(m for m, _ in parents)))}
        hits = [members for members, outcome in outcomes.items() if goal(outcome)]
        if hits:
            return sorted(hits, key=lambda members: (problem.bits_of(members), members))
        scores = {members: objective(outcome) for members, outcome in outcomes.items()}
        better = {members for members, reached in parents if scores[members] > reached}
        ranked = sorted(better, key=lambda members: (_descending(scores[members]), problem.bits_of(members), members))
        kept = {members: scores[members] for members in ranked[:width]}
    return []


def strongest(outcome: SetOutcome) -> tuple[float, ...]:
    """Growing towards flips: the flip rate, then how far the failure's score falls in units of the failed scores."""
    failed = sum(outcome.failed_scores) / len(outcome.failed_scores)
    return (outcome.flip_rate, round(outcome.score_decrease / failed, DIGITS))


def closest(outcome: SetOutcome) -> tuple[float, ...]:
    """Growing towards restoration: nearer to the donor's output; flips alone lead to late copies of the answer."""
    residual = outcome.residual
    return (-round(residual, DIGITS) if residual is not None else float("-inf"), outcome.flip_rate)


NOTHING: dict[Objective, tuple[float, ...]] = {strongest: (0.0, 0.0), closest: (-1.0, 0.0)}
"""The objective of the empty set, which is the failing run."""


def _additions(problem: Problem, current: Members) -> Iterator[Members]:
    taken = {problem.sites[i] for i in current}
    for index, site in enumerate(problem.sites):
        if site not in taken:
            yield tuple(sorted((*current, index)))


def _descending(values: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(-value for value in values)
