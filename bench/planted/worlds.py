"""Known truth tables: which sets of repaired components remove a failure. No set is run to know that."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np

POOL = 24
LARGEST = 4
"""Smallest fix sets have 1 to 4 members."""
CREDIT = 0.45
"""All partial credit together stays below this; the failure goes away at 0.5."""


@dataclass(frozen=True)
class World:
    """A truth table.

    Attributes:
        terms: the failure goes away when all members of some term are repaired, …
        guards: … unless for some (spoiler, partner) the spoiler is repaired and its partner is not: two faults that
            cancel one another. Flips are not monotone then.
        credit: per component, how much of the score its repair alone takes away; all zero in a flat world.
    """

    seed: int
    terms: tuple[tuple[int, ...], ...]
    guards: tuple[tuple[int, int], ...]
    credit: tuple[float, ...]

    @property
    def graded(self) -> bool:
        return any(self.credit)

    def works(self, members: tuple[int, ...]) -> bool:
        """Whether repairing exactly these components removes the failure."""
        repaired = set(members)
        spoiled = any(spoiler in repaired and partner not in repaired for spoiler, partner in self.guards)
        return not spoiled and any(repaired.issuperset(term) for term in self.terms)

    def optima(self) -> tuple[set[tuple[int, ...]], int]:
        """Brute force on the table: the smallest working sets, and how many sets there are up to their size."""
        looked_at = 0
        for size in range(1, LARGEST + 1):
            sets = list(combinations(range(POOL), size))
            looked_at += len(sets)
            hits = {members for members in sets if self.works(members)}
            if hits:
                return hits, looked_at
        raise AssertionError("a world has a fix set of at most four")


def worlds(count: int, first: int = 0) -> Iterator[World]:
    """Half of them flat; sizes 1 to 4 in turn; redundant terms, spoilers and distractors by chance of the seed."""
    for seed in range(first, first + count):
        yield (_graded if seed % 2 else _flat)(seed, 1 + seed // 2 % LARGEST)


def _flat(seed: int, size: int) -> World:
    """No proper subset of a fix set moves the score."""
    random = np.random.default_rng([seed, 11])
    drawn = [int(i) for i in random.permutation(POOL)]
    terms = [drawn[:size]]
    rest = drawn[size:]
    if random.random() < 0.5:  # a redundant cause, as large or larger, that may share a member
        length = min(size + int(random.integers(0, 2)), LARGEST)
        shared = drawn[:1] if size > 1 and random.random() < 0.5 else []
        terms.append([*shared, *rest[: length - len(shared)]])
        rest = rest[length:]
    guards = []
    if random.random() < 0.5:
        for pair in range(int(random.integers(1, 3))):
            spoiler, partner = rest[2 * pair : 2 * pair + 2]
            guards.append((spoiler, partner))
            if random.random() < 0.3:  # neither without the other
                guards.append((partner, spoiler))
    return World(seed, _sorted(terms), tuple(guards), (0.0,) * POOL)


def _graded(seed: int, size: int) -> World:
    """Every member of a fix set moves the score by itself; something that repairs nothing may move it more."""
    random = np.random.default_rng([seed, 12])
    drawn = [int(i) for i in random.permutation(POOL)]
    terms, rest = [drawn[:size]], drawn[size:]
    credit = np.zeros(POOL)
    credit[terms[0]] = random.uniform(0.03, 0.06, size)
    if 1 < size <= 2 and random.random() < 0.5:  # a larger term that looks better at first
        terms.append(rest[: size + 1])
        credit[rest[: size + 1]] = random.uniform(0.07, 0.08, size + 1)
    elif random.random() < 0.5:
        credit[rest[-1]] = 0.09
    assert credit.sum() < CREDIT
    return World(seed, _sorted(terms), (), tuple(credit.tolist()))


def _sorted(terms: list[list[int]]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(sorted(term)) for term in terms)
