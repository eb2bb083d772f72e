"""What a search runs on: its cases, the candidates in their order, the problem that they pose, what measures sets."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from model_forensics.cca.attribution import estimated_effects
from model_forensics.cca.copying import Copying
from model_forensics.cca.evidence import BenignEffects
from model_forensics.cca.executor import Executor, Members, SetOutcome
from model_forensics.cca.material import MATERIAL_CHANGE, largest_change
from model_forensics.cca.measure import Laboratory
from model_forensics.cca.pool import Candidate, build_pool, component_of
from model_forensics.cca.prepare import Prepared
from model_forensics.cca.replay import split_groups
from model_forensics.cca.restoration import Explained, Rescore
from model_forensics.cca.search import Problem, Settings
from model_forensics.cca.shortlist import Shortlisted, promising_order, search_shortlist
from model_forensics.config import CausalConfig
from model_forensics.models import Model
from model_forensics.types import Recording

SETS_FOR_NOISE = 100
"""Sets that a stage of the search may run where no set can be a cause, because noise decides the samples."""


@dataclass(frozen=True)
class Design:
    """One incident, ready to be searched.

    Attributes:
        ranking: site names, most suspicious first.
        seen: indices of the cases that the search sees; `held_out` those that the evidence is taken on.
        in_sample: they are the same ones, because there is one group.
    """

    prepared: Prepared
    config: CausalConfig
    ranking: Sequence[str]
    seen: tuple[int, ...]
    held_out: tuple[int, ...]
    in_sample: bool
    seed: int

    @staticmethod
    def of(prepared: Prepared, config: CausalConfig, ranking: Sequence[str], seed: int) -> Design:
        seen, held_out, in_sample = split_groups(prepared.cases, seed)
        return Design(prepared, config, ranking, seen, held_out, in_sample, seed)

    @cached_property
    def largest_change(self) -> float | None:
        """See `material.largest_change`."""
        return largest_change(self.prepared.base, self.prepared.sources.patch, self.prepared.cases)

    @property
    def stated_change(self) -> float | None:
        """It, as a result states it: None where it is not finite."""
        known = self.largest_change
        return known if known is not None and math.isfinite(known) else None

    @property
    def is_material(self) -> bool:
        """Whether the incident differs from its donor by more than noise, as far as that is known."""
        return self.largest_change is None or self.largest_change >= MATERIAL_CHANGE

    def with_prepared(self, prepared: Prepared) -> Design:
        return replace(self, prepared=prepared)

    def pool(self) -> tuple[list[Candidate], tuple[str, ...]]:
        """Every candidate, and warnings; see `build_pool`."""
        prepared = self.prepared
        samples = [case.sample for case in prepared.cases]
        kinds = self.config.intervention_types
        return build_pool(prepared.taps, kinds, prepared.sources, prepared.base, samples, self.ranking)

    def ordered(self, pool: Sequence[Candidate]) -> tuple[list[Candidate], list[float] | None, tuple[str, ...]]:
        """The pool in the order in which candidates are taken, with their estimates where these are needed."""
        prepared = self.prepared
        if len({candidate.tap.name for candidate in pool}) <= self.config.max_pool_sites:
            return list(pool), None, ()
        cases = [prepared.cases[i] for i in self.seen]
        estimated = estimated_effects(prepared.model, prepared.calls, prepared.base, prepared.sources, pool, cases)
        order = promising_order(pool, self.ranking, estimated)
        ordered = [pool[i] for i in order]
        if estimated is None:
            text = "this failure has no finite gradient: forensics alone chose which sites were searched first"
            return ordered, None, (text,)
        return ordered, [estimated[i] for i in order], ()

    def laboratory(
        self,
        pool: Sequence[Candidate],
        benign: Sequence[Recording] = (),
        donor_model: Model | None = None,
        rescore: Rescore | None = None,
    ) -> Laboratory:
        prepared = self.prepared
        runner, sources = prepared.runner, prepared.sources
        patch = sources.patch
        known = all(case.donor is not None for case in prepared.cases)
        return Laboratory(
            executor=Executor(runner, sources, pool, prepared.cases, self.seed, prepared.decoder),
            explained=Explained(prepared.model, prepared.calls, sources, rescore, prepared.taps),
            benign=BenignEffects(prepared.model, benign, sources, donor_model, self.config.max_batch_rows),
            copying=Copying(runner, sources, benign, prepared.taps, self.seed, prepared.decoder),
            cases=self.held_out,
            in_sample=self.in_sample,
            threshold=self.config.early_stop_threshold,
            can_restore=known and self.is_material and (patch is None or patch.description.same_input),
        )

    def search(
        self, laboratory: Laboratory, estimated: Sequence[float] | None, refuted: Collection[Members] = ()
    ) -> Shortlisted:
        """Look for sets among the candidates of the laboratory's executor.

        Args:
            refuted: sets that restore what the search sees and are no cause by other samples. With some, those that
                restore must be others, and restore with a margin.
        """
        config = self.config
        settings = Settings(
            strategy=config.search_strategy,
            beam_width=config.beam_width,
            stage_sets=config.max_stage_sets if self.is_material else min(config.max_stage_sets, SETS_FOR_NOISE),
            alternatives=config.max_alternatives,
            seed=self.seed,
        )
        sites = [candidate.tap.name for candidate in laboratory.executor.pool]
        return search_shortlist(
            lambda count: self._problem(laboratory, count, refuted), sites, estimated, config.max_pool_sites, settings
        )

    def _problem(self, laboratory: Laboratory, count: int, refuted: Collection[Members]) -> Problem:
        """Of the first `count` candidates."""

        def restores(outcome: SetOutcome) -> bool:
            return outcome.members not in refuted and laboratory.restores(outcome, margin=bool(refuted))

        executor = laboratory.executor
        pool = executor.pool[:count]
        return Problem(
            sites=[candidate.tap.name for candidate in pool],
            bits=[candidate.bits for candidate in pool],
            order=[candidate.tap.order for candidate in pool],
            run=lambda sets: executor.score_many(sets, self.seen),
            sufficient=laboratory.sufficient,
            restores=restores if laboratory.can_restore else None,
            max_size=self.config.max_fix_set_size,
            explained=laboratory.share,
            components=[component_of(candidate.tap) for candidate in pool],
            possible=self._possible(laboratory),
        )

    def _possible(self, laboratory: Laboratory) -> Callable[[Sequence[Members]], list[Members]] | None:
        """Drops sets that flip none of the first cases, where these are enough to miss the threshold."""
        count = len(self.seen)
        needed = next(flips for flips in range(count + 1) if flips / count >= laboratory.threshold)
        first = self.seen[: count - needed + 1]
        if len(first) == count:
            return None
        executor = laboratory.executor
        return lambda sets: [one.members for one in executor.score_many(sets, first) if one.flips]
