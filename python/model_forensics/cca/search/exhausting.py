"""Running all sets of a size, and all proper subsets of a set: what claims of minimality rest on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import combinations

from model_forensics.cca.executor import Members
from model_forensics.cca.search.problem import Goal, Ledger, Problem


def count_sets(problem: Problem, size: int) -> int:
    """Sets of this size with one intervention per site."""
    counts = [1] + [0] * size
    for choices in Counter(problem.sites).values():
        for taken in range(size, 0, -1):
            counts[taken] += choices * counts[taken - 1]
    return counts[size]


def all_sets(problem: Problem, size: int) -> Iterator[Members]:
    """They, in lexicographic order."""
    sites = problem.sites
    for members in combinations(range(len(sites)), size):
        if len({sites[i] for i in members}) == size:
            yield members


def smallest_subsets(ledger: Ledger, members: Members, goal: Goal) -> list[Members]:
    """The proper subsets of the first size at which one meets the goal; empty when all miss it."""
    for size in range(1, len(members)):
        hits = ledger.hits(list(combinations(members, size)), goal)
        if hits:
            return hits
    return []
