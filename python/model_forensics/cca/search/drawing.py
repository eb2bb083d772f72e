"""Drawing sets at random: the yardstick for growth, and a way out where growth is misled."""

from __future__ import annotations

import numpy as np

from model_forensics.cca.executor import Members
from model_forensics.cca.search.problem import Goal, Ledger, Problem

ROUND = 64
"""Sets between two looks at whether one meets the goal."""


def draw(ledger: Ledger, problem: Problem, goal: Goal, sets: int, seed: int) -> list[Members]:
    """The sets that meet the goal in the first round in which one does, smallest first; empty if none does.

    A draw takes its size uniformly from 1 to the largest allowed, then sites without repeats, then one of the
    interventions at each. Draws may repeat.
    """
    random = np.random.default_rng([seed, 2])
    by_site: dict[str, list[int]] = {}
    for index, site in enumerate(problem.sites):
        by_site.setdefault(site, []).append(index)
    choices = list(by_site.values())
    for start in range(0, sets, ROUND):
        drawn = [_one(random, choices, problem.max_size) for _ in range(min(ROUND, sets - start))]
        hits = ledger.hits(list(dict.fromkeys(drawn)), goal)
        if hits:
            return sorted(hits, key=lambda members: (len(members), problem.bits_of(members), members))
    return []


def _one(random: np.random.Generator, choices: list[list[int]], max_size: int) -> Members:
    size = int(random.integers(1, min(max_size, len(choices)) + 1))
    sites = random.choice(len(choices), size=size, replace=False)
    return tuple(sorted(int(random.choice(choices[site])) for site in sites))
