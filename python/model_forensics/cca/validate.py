"""Measuring a given fix set anew."""

from __future__ import annotations

from collections.abc import Sequence

from model_forensics.cca.choice import Healthy
from model_forensics.cca.controls import reversal, shams
from model_forensics.cca.experiment import Design
from model_forensics.cca.finer import measure_again
from model_forensics.cca.given import GivenValues
from model_forensics.cca.measure import Laboratory
from model_forensics.cca.pool import Candidate, difference, may_be_cause
from model_forensics.cca.prepare import Prepared, prepare
from model_forensics.cca.restoration import Rescore
from model_forensics.config import CausalConfig
from model_forensics.errors import InterventionError
from model_forensics.models import Model
from model_forensics.types import FixSet, Intervention, Recording


def validate_fix(
    model: Model,
    incident: Recording,
    fix_set: FixSet,
    *,
    benign: Sequence[Recording] = (),
    donor_model: Model | None = None,
    contrast: Recording | None = None,
    donor_values: GivenValues | None = None,
    config: CausalConfig,
    rescore: Rescore | None = None,
    seed: int = 0,
) -> FixSet:
    """The same set, measured anew on the samples that the search with this seed held out.

    `minimality` and `certificate` are carried over (only a search can establish them), except that the level becomes
    `none` when a member turns out to be dispensable. The search is not repeated with shuffled donors.

    Raises:
        InterventionError: no sample fails on replay, or a donor that the set names is not available.
        Others as `find_fix_set`.
    """
    sites = [intervention.site for intervention in fix_set.interventions]
    if len(set(sites)) < len(sites) or not sites:
        raise InterventionError("a fix set holds one intervention per site", cure="Give a fix set of find_fix_set")
    healthy = Healthy(benign, donor_model, contrast, donor_values)
    prepared = prepare(model, incident, config=config, healthy=healthy, extra_sites=sites)
    if not prepared.cases:
        raise InterventionError(
            "no sample of the incident fails on replay, so there is nothing to repair",
            where=incident.bundle_id,
            cure="Give the model that the incident was recorded with",
        )
    design = Design.of(prepared, config, (), seed)
    given = [_candidate(prepared, intervention) for intervention in fix_set.interventions]
    pool = [*given, *_others(design, given)]
    members = tuple(range(len(given)))
    laboratory = design.laboratory(pool, benign, donor_model, rescore)
    held_out = design.held_out
    measured = laboratory.fix_set(members, fix_set.minimality)
    update: dict[str, object] = {
        "certificate": fix_set.certificate,
        "shams": shams(laboratory.executor, members, held_out, laboratory.threshold, seed),
        "reversal": reversal(prepared, donor_model, given, held_out, config.max_batch_rows),
    }
    if fix_set.finer is not None and donor_model is not None:
        update["finer"] = measure_again(prepared, donor_model, fix_set, fix_set.finer, held_out, seed=seed)
    measured = measured.model_copy(update=update)
    if len(given) > 1 and _dispensable(measured, laboratory):
        measured = measured.model_copy(update={"minimality": "none"})
    return measured


def _others(design: Design, given: Sequence[Candidate]) -> list[Candidate]:
    """The candidates of a search besides these, which shams are drawn from."""
    named = {(one.intervention.site, one.intervention.kind) for one in given}
    pool, _ = design.pool()
    return [one for one in pool if (one.intervention.site, one.intervention.kind) not in named]


def _dispensable(measured: FixSet, laboratory: Laboratory) -> bool:
    """Whether the set without some member still does what the set is labelled for."""
    members = tuple(range(len(measured.interventions)))
    goal = laboratory.restores if measured.label == "cause" else laboratory.sufficient
    smaller = [tuple(m for m in members if m != left_out) for left_out in members]
    return any(goal(outcome) for outcome in laboratory.executor.score_many(smaller, laboratory.cases))


def _candidate(prepared: Prepared, intervention: Intervention) -> Candidate:
    """The pool entry of one given intervention, with the donor that is available now.

    Raises:
        InterventionError: the donor is missing or another one than the set names.
    """
    taps = {tap.name: tap for tap in prepared.taps}
    site, patch = intervention.site, prepared.sources.patch
    if site not in taps or not may_be_cause(taps[site], intervention.kind, patch):
        raise InterventionError(
            "the site is a cut through the whole model, or the model does not compute it",
            where=site,
            cure="Name a component",
        )
    tap = taps[site]
    found = prepared.sources.intervention(tap.name, intervention.kind)
    named, given = intervention.donor, found.donor
    if named is not None and given is not None:
        digests = named.weights_digest is None or given.weights_digest in (None, named.weights_digest)
        digests = digests and named.content_digest == given.content_digest
        if named.kind != given.kind or named.same_input != given.same_input or not digests:
            raise InterventionError(
                f"the set was measured with donor {named.kind} ({named.source}), and {given.kind}"
                f" ({given.source}) is given",
                where=tap.name,
                cure="Give the same donor: another one is another experiment",
            )
    chosen = intervention.model_copy(update={"donor": given})
    samples = [case.sample for case in prepared.cases]
    bits, _ = difference(tap, chosen, prepared.sources, prepared.base, samples)
    return Candidate(tap, chosen, bits)
