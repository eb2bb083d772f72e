"""Two hundred faults with known truth tables, built as gates in weights and searched through the executor."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from bench import fix_sets
from bench.planted.contest import STRATEGIES, attempt, executor_of
from bench.planted.gates import plant
from bench.planted.worlds import LARGEST, POOL, worlds
from model_forensics.cca import find_fix_set
from model_forensics.cca.executor import Executor
from model_forensics.config import CausalConfig

COUNT = 200
ASKED = ("beam alone", "greedy, shrinking", "beam, all stages")


@pytest.fixture(scope="module")
def attempts():
    """Per world: its smallest sets, what brute force looks at, and what each strategy did."""
    done = []
    for world in worlds(COUNT):
        optima, looked_at = world.optima()
        executor = executor_of(plant(world))
        done.append((world, optima, looked_at, {name: attempt(executor, STRATEGIES[name], optima) for name in ASKED}))
    return done


def test_worlds_are_what_they_are_said_to_be():
    made = list(worlds(COUNT))
    assert sum(world.graded for world in made) == COUNT // 2
    sizes = Counter((world.graded, len(min(world.optima()[0], key=len))) for world in made)
    assert all(sizes[graded, size] >= 15 for graded in (True, False) for size in range(1, LARGEST + 1))
    assert any(not world.works(m) for world in made for term in world.terms for m in grown(world, term)), "no monotony"


def grown(world, term):
    return [tuple(sorted({*term, spoiler})) for spoiler, partner in world.guards if partner not in term]


@pytest.mark.parametrize("seed", range(8))
def test_the_network_has_the_truth_table(seed):
    (world,) = worlds(1, first=seed)
    executor = executor_of(plant(world))
    assert len(executor.pool) == POOL
    random = np.random.default_rng(seed)
    sets = list(combinations(range(POOL), 2)) + [m for term in world.terms for m in [term, *grown(world, term)]]
    sets += [tuple(sorted(random.choice(POOL, size, replace=False))) for size in range(3, POOL) for _ in range(3)]
    outcomes = executor.score_many([tuple(map(int, members)) for members in sets], [0, 1])
    for members, outcome in zip(sets, outcomes, strict=True):
        assert outcome.flip_rate == float(world.works(members))
        if not world.works(members):
            score = 0.5 - sum(world.credit[i] for i in members)
            assert [case.score for case in outcome.cases] == pytest.approx([score] * 2, abs=1e-5)


@pytest.mark.slow
def test_all_stages_find_a_smallest_set_always(attempts):
    assert all(tried["beam, all stages"].optimal for *_, tried in attempts)


@pytest.mark.slow
def test_greedy_and_shrinking_find_it_nearly_always(attempts):
    assert sum(tried["greedy, shrinking"].optimal for *_, tried in attempts) >= 0.95 * COUNT


@pytest.mark.slow
def test_a_beam_alone_finds_it_where_there_is_a_signal(attempts):
    assert all(tried["beam alone"].optimal for world, *_, tried in attempts if world.graded)


@pytest.mark.slow
def test_claims_of_minimality_are_true_and_cost_less_than_brute_force(attempts):
    for world, optima, looked_at, tried in attempts:
        done = tried["beam, all stages"]
        for hit in done.found.restoring:
            members = hit.outcome.members
            assert world.works(members)
            proper = [part for size in range(1, len(members)) for part in combinations(members, size)]
            assert not any(map(world.works, proper))
            assert hit.minimality == ("cardinality" if members in optima else "subset")
            assert hit.exhausted >= len(done.best) - 1
        if len(done.best) == LARGEST:
            assert done.sets_run < looked_at / 4
        assert tried["greedy, shrinking"].sets_run < 500


@pytest.mark.slow
def test_redundant_causes_are_alternatives(attempts):
    """Every term of the truth table that holds no smaller one is found, though each hides the other."""
    for world, *_, tried in attempts:
        minimal = {term for term in world.terms if not any(set(other) < set(term) for other in world.terms)}
        assert minimal <= {hit.outcome.members for hit in tried["beam, all stages"].found.restoring}


@pytest.mark.parametrize("strategy", ["greedy", "beam", "random"])
@pytest.mark.parametrize("seed", [4, 5, 6, 7])
def test_the_whole_stage_and_nothing_reported_without_a_run(monkeypatch, strategy, seed):
    (world,) = worlds(1, first=seed)
    fault = plant(world)
    executed: set[tuple[str, ...]] = set()
    original = Executor._run

    def counting(self, jobs, keys):
        executed.update(tuple(str(self.pool[i].intervention) for i in members) for members, _ in keys)
        return original(self, jobs, keys)

    monkeypatch.setattr(Executor, "_run", counting)
    config = CausalConfig(intervention_types=("patch",), search_strategy=strategy)
    result = find_fix_set(fault.broken, fault.incident, config=config, donor_model=fault.intact, seed=1)
    fix = result.fix_set
    assert fix is not None
    assert fix.label == "cause"
    assert fix.minimality == "cardinality"
    assert fix.certificate is not None
    assert (fix.certificate.candidates, result.spent.strategy) == (POOL, strategy)
    assert fix.certificate.exhausted >= len(fix.interventions) - 1
    assert 0 < result.spent.combinations < fix.certificate.forwards <= result.spent.forwards
    assert result.spent.combinations == len(executed - {()})
    optima, _ = world.optima()
    for reported in (fix, *result.alternatives, *result.workarounds):
        sites = tuple(int(one.site.removeprefix("parts.")) for one in reported.interventions)
        assert world.works(sites)
        assert tuple(map(str, reported.interventions)) in executed
    assert tuple(int(one.site.removeprefix("parts.")) for one in fix.interventions) in optima


def test_the_report_counts_sets_beside_brute_force(capsys):
    assert fix_sets.main(["--worlds", "2"]) == 0
    printed = capsys.readouterr().out
    assert "| beam, all stages | 1 of 1 |" in printed
    assert "| brute force | 1 of 1 | 24 | 24 | 1 of 1 | 24 | 24 |" in printed
