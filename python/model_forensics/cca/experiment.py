"""What a search runs on: the candidates in their order, the problem that they pose, and what measures sets."""

from __future__ import annotations

from collections.abc import Sequence

from model_forensics.cca.attribution import estimated_effects
from model_forensics.cca.evidence import BenignEffects
from model_forensics.cca.executor import Executor
from model_forensics.cca.measure import Laboratory
from model_forensics.cca.pool import Candidate, component_of
from model_forensics.cca.prepare import Prepared
from model_forensics.cca.restoration import Explained, Rescore
from model_forensics.cca.search import Problem, Settings
from model_forensics.cca.shortlist import promising_order
from model_forensics.config import CausalConfig
from model_forensics.models import Model
from model_forensics.types import Recording


def laboratory_of(
    prepared: Prepared,
    pool: Sequence[Candidate],
    config: CausalConfig,
    benign: Sequence[Recording],
    donor_model: Model | None,
    rescore: Rescore | None,
    held_out: Sequence[int],
    in_sample: bool,
    seed: int,
) -> Laboratory:
    patch = prepared.sources.patch
    known = all(case.donor is not None for case in prepared.cases)
    return Laboratory(
        executor=Executor(prepared.runner, prepared.sources, pool, prepared.cases, seed),
        explained=Explained(prepared.model, prepared.calls, prepared.sources, rescore),
        benign=BenignEffects(prepared.model, benign, prepared.sources, donor_model, config.max_batch_rows),
        cases=held_out,
        in_sample=in_sample,
        threshold=config.early_stop_threshold,
        same_input=known and (patch is None or patch.description.same_input),
    )


def ordered_pool(
    prepared: Prepared,
    pool: Sequence[Candidate],
    seen: Sequence[int],
    ranking: Sequence[str],
    config: CausalConfig,
) -> tuple[list[Candidate], list[float] | None, tuple[str, ...]]:
    """The pool in the order in which candidates are taken, with their estimates where these are needed."""
    if len({candidate.tap.name for candidate in pool}) <= config.max_pool_sites:
        return list(pool), None, ()
    cases = [prepared.cases[i] for i in seen]
    estimated = estimated_effects(prepared.model, prepared.calls, prepared.base, prepared.sources, pool, cases)
    order = promising_order(pool, ranking, estimated)
    ordered = [pool[i] for i in order]
    if estimated is None:
        text = "this failure has no finite gradient: forensics alone chose which sites were searched first"
        return ordered, None, (text,)
    return ordered, [estimated[i] for i in order], ()


def problem_of(laboratory: Laboratory, seen: Sequence[int], config: CausalConfig, count: int) -> Problem:
    """Of the first `count` candidates."""
    executor = laboratory.executor
    pool = executor.pool[:count]
    return Problem(
        sites=[candidate.tap.name for candidate in pool],
        bits=[candidate.bits for candidate in pool],
        order=[candidate.tap.order for candidate in pool],
        run=lambda sets: executor.score_many(sets, seen),
        sufficient=laboratory.sufficient,
        restores=laboratory.restores if laboratory.same_input else None,
        max_size=config.max_fix_set_size,
        explained=laboratory.share,
        components=[component_of(candidate.tap) for candidate in pool],
    )


def settings_of(config: CausalConfig, seed: int) -> Settings:
    return Settings(
        strategy=config.search_strategy,
        beam_width=config.beam_width,
        stage_sets=config.max_stage_sets,
        alternatives=config.max_alternatives,
        seed=seed,
    )
