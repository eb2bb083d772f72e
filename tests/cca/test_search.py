"""The search against brute force, on truth tables instead of models."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_forensics.cca.executor import CaseOutcome, OutOfTime, SetOutcome
from model_forensics.cca.search import Problem, Search, Settings


def members_of(hits):
    return [hit.outcome.members for hit in hits]


class Table:
    """A made-up world: which sets flip, which restore; remembers what was run."""

    def __init__(
        self, size, flips, restores=None, *, max_size=3, sites=None, limit=None, bits=None, hints=None, possible=None
    ):
        self.size, self.flips, self.restores, self.hints, self.possible = size, flips, restores, hints, possible
        self.sites = sites or [f"s{i}" for i in range(size)]
        self.bits = bits or [1.0] * size
        self.max_size, self.limit = max_size, limit
        self.executed: set[tuple[int, ...]] = set()

    def run(self, sets):
        outcomes = []
        for members in sets:
            if self.limit is not None and len(self.executed) >= self.limit and members not in self.executed:
                raise OutOfTime
            assert members == tuple(sorted(members))
            assert len({self.sites[i] for i in members}) == len(members)
            self.executed.add(members)
            outcomes.append(self.outcome(members))
        return outcomes

    def outcome(self, members):
        chosen = frozenset(members)
        restored = self.restores is not None and self.restores(chosen)
        flipped = restored or self.flips(chosen)
        residual = None if self.restores is None else (0.0 if restored else 1.0)
        if self.hints is not None and not restored:
            residual = self.hints(chosen)
        case = CaseOutcome(-1.0 if flipped else 1.0, "fixed" if flipped else "failed", None, residual)
        return SetOutcome(members, (case,), (1.0,))

    def search(self, **settings):
        return Search(
            Problem(
                sites=self.sites,
                bits=self.bits,
                order=list(range(self.size)),
                run=self.run,
                sufficient=lambda o: o.flip_rate >= 0.8,
                restores=None if self.restores is None else (lambda o: self.restores(frozenset(o.members))),
                max_size=self.max_size,
                possible=self.possible,
            ),
            Settings(**settings),
        ).result()

    def brute_force(self, goal):
        for size in range(1, self.max_size + 1):
            hits = [
                members
                for members in combinations(range(self.size), size)
                if len({self.sites[i] for i in members}) == size and goal(frozenset(members))
            ]
            if hits:
                return hits
        return []


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(0, 2**32 - 1), st.floats(0.02, 0.5))
def test_agrees_with_brute_force_on_any_truth_table(size, seed, density):
    """Effects need not be additive or monotone."""
    random = np.random.default_rng(seed)
    truth = {m: bool(random.random() < density) for k in range(1, 7) for m in combinations(range(size), k)}
    table = Table(size, lambda chosen: truth[tuple(sorted(chosen))])
    found = table.search()
    expected = table.brute_force(lambda chosen: truth[tuple(sorted(chosen))])
    smallest = {hit.outcome.members for hit in found.flipping if len(hit.outcome.members) == len((*expected, ())[0])}
    assert smallest == set(expected)
    for hit in found.flipping:
        members = hit.outcome.members
        proper = [part for k in range(1, len(members)) for part in combinations(members, k)]
        assert truth[members]
        assert not any(truth[part] for part in proper)
        assert set(proper) <= table.executed
        assert hit.minimality == ("cardinality" if members in smallest else "subset")


@settings(max_examples=40, deadline=None)
@given(st.integers(4, 24), st.data())
def test_needles_without_any_single_signal(size, data):
    """Only all of them together help: greedy sees a flat landscape, the shrinking of everything finds them."""
    needed = data.draw(st.sets(st.integers(0, size - 1), min_size=2, max_size=3))
    found = Table(size, needed.issubset).search()
    assert [(set(hit.outcome.members), hit.minimality) for hit in found.flipping] == [(needed, "cardinality")]


def test_five_needles_in_a_large_pool():
    needed = {3, 17, 22, 41, 59}
    table = Table(60, needed.issubset, max_size=5)
    found = table.search()
    assert [(set(hit.outcome.members), hit.minimality) for hit in found.flipping] == [(needed, "subset")]
    assert all(set(combinations(sorted(needed), k)) <= table.executed for k in range(1, 5))
    assert found.flipping[0].exhausted == 2


def test_four_needles_have_all_proper_subsets_run():
    needed = (3, 17, 22, 41)
    table = Table(60, set(needed).issubset, max_size=5)
    (found,) = table.search().flipping
    assert found.outcome.members == needed
    assert found.minimality == "subset"
    assert all(set(combinations(needed, k)) <= table.executed for k in range(1, 4))


def test_sets_that_some_cases_rule_out_are_neither_run_on_the_others_nor_hits():
    def flips(chosen):
        return chosen >= {4, 7}

    asked = []

    def possible(sets):
        asked.extend(sets)
        return [members for members in sets if 4 in members]

    plain, screened = Table(12, flips), Table(12, flips, possible=possible)
    assert screened.search() == plain.search()
    assert len(asked) == len(set(asked)), "asked once"
    ruled_out = {members for members in asked if 4 not in members}
    assert len(ruled_out) > 40
    assert not ruled_out & screened.executed


def test_a_set_larger_than_allowed_is_not_returned():
    found = Table(60, {1, 2, 3, 4}.issubset, max_size=3).search()
    assert found.flipping == []
    assert found.best is not None
    assert len(found.best.members) <= 3


def test_restoring_pair_wins_over_a_flipping_single():
    """The last MLP copies the answer; only the two damaged components restore."""
    hints = {frozenset({1}): 0.5, frozenset({3}): 0.6, frozenset({7}): 0.4}
    table = Table(
        8,
        lambda chosen: 7 in chosen,
        {1, 3}.issubset,
        hints=lambda chosen: min((v for k, v in hints.items() if k <= chosen), default=1.0) - 0.01 * len(chosen),
    )
    found = table.search()
    assert found.restoring[0].outcome.members == (1, 3)
    assert found.restoring[0].minimality == "cardinality"
    assert members_of(found.flipping) == [(7,)]


def test_one_intervention_per_site():
    sites = ["a", "a", "b", "b"]
    found = Table(4, {0, 3}.issubset, sites=sites).search()
    assert members_of(found.flipping) == [(0, 3)]
    assert Table(4, {0, 1}.issubset, sites=sites).search().flipping == []


def test_fewer_bits_then_earlier():
    found = Table(4, lambda chosen: True, bits=[5.0, 2.0, 2.0, 9.0]).search()
    assert members_of(found.flipping) == [(1,), (2,), (0,), (3,)]


@pytest.mark.parametrize("limit", [0, 1, 5, 12, 30])
def test_out_of_time_keeps_only_what_was_run(limit):
    table = Table(12, {2, 5, 9}.issubset, limit=limit)
    found = table.search()
    assert found.timed_out
    assert len(table.executed) <= limit
    listed = members_of(found.flipping) + ([found.best.members] if found.best else [])
    assert all(members in table.executed for members in listed)


def test_the_same_search_twice():
    runs = [Table(10, {2, 5}.issubset) for _ in range(2)]
    assert runs[0].search() == runs[1].search()
    assert runs[0].executed == runs[1].executed
