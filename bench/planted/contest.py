"""Strategies of the search on one planted fault, through the executor that real models go through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bench.planted.gates import PlantedFault
from model_forensics.cca.choice import Healthy
from model_forensics.cca.executor import Executor
from model_forensics.cca.pool import build_pool
from model_forensics.cca.prepare import prepare
from model_forensics.cca.restoration import output_restored
from model_forensics.cca.search import Found, Problem, Search, Settings
from model_forensics.config import CausalConfig

CONFIG = CausalConfig(intervention_types=("patch",), early_stop_threshold=1.0)

STRATEGIES: Mapping[str, Settings] = {
    "greedy alone": Settings(strategy="greedy", shrinking=False, exhausting=False),
    "beam alone": Settings(strategy="beam", shrinking=False, exhausting=False),
    "random alone": Settings(strategy="random", shrinking=False, exhausting=False),
    "greedy, shrinking": Settings(strategy="greedy", exhausting=False),
    "beam, shrinking": Settings(strategy="beam", exhausting=False),
    "greedy, all stages": Settings(strategy="greedy"),
    "beam, all stages": Settings(strategy="beam"),
    "random, all stages": Settings(strategy="random"),
}


@dataclass(frozen=True)
class Attempt:
    """What one strategy did on one fault.

    Attributes:
        best: the set it prefers, None if it found none.
        optimal: whether no smaller set works.
        sets_run: distinct sets it ran, one row of the model each.
    """

    found: Found
    best: tuple[int, ...] | None
    optimal: bool
    sets_run: int


def executor_of(fault: PlantedFault) -> Executor:
    """The pool of patches from the intact model, and the failing samples as cases."""
    prepared = prepare(fault.broken, fault.incident, config=CONFIG, healthy=Healthy(donor_model=fault.intact))
    samples = [case.sample for case in prepared.cases]
    pool, _ = build_pool(prepared.taps, CONFIG.intervention_types, prepared.sources, prepared.base, samples, ())
    return Executor(prepared.runner, prepared.sources, pool, prepared.cases, seed=0)


def attempt(executor: Executor, settings: Settings, optima: set[tuple[int, ...]]) -> Attempt:
    """Search for sets that restore, on the first case."""
    problem = Problem(
        sites=[candidate.tap.name for candidate in executor.pool],
        bits=[candidate.bits for candidate in executor.pool],
        order=[candidate.tap.order for candidate in executor.pool],
        run=lambda sets: executor.score_many(sets, [0]),
        sufficient=lambda outcome: outcome.flip_rate >= 1.0,
        restores=lambda outcome: outcome.flip_rate >= 1.0 and output_restored(outcome),
        max_size=CONFIG.max_fix_set_size,
    )
    search = Search(problem, settings)
    found = search.result()
    best = found.restoring[0].outcome.members if found.restoring else None
    return Attempt(found, best, best in optima, search.sets_run)
