"""From a model and recordings to a pool of candidates and the cases they are tried on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from model_forensics.cca.batched import BatchedRunner
from model_forensics.cca.calls import Calls
from model_forensics.cca.choice import Healthy, check_choice
from model_forensics.cca.continuations import Decoder
from model_forensics.cca.donors import PatchDonor, mean_donor
from model_forensics.cca.grounds import logits_grounds
from model_forensics.cca.pool import Sources, component_taps
from model_forensics.cca.replay import Case, Run, predicate
from model_forensics.cca.text_grounds import text_grounds
from model_forensics.config import CausalConfig
from model_forensics.models import Model, Tap
from model_forensics.types import Recording, Replay


@dataclass(frozen=True)
class Prepared:
    """Everything that a search or a validation starts from; see `Grounds`."""

    model: Model
    calls: Calls
    runner: BatchedRunner
    taps: tuple[Tap, ...]
    base: Run
    sources: Sources
    cases: tuple[Case, ...]
    replay: Replay
    warnings: tuple[str, ...]
    donor_recording: Recording
    decoder: Decoder | None = None


def prepare(
    model: Model,
    incident: Recording,
    *,
    config: CausalConfig,
    healthy: Healthy,
    extra_sites: Sequence[str] = (),
) -> Prepared:
    """Replay the incident, find its failing samples, collect donors once per site.

    Args:
        extra_sites: read and given donors besides the components (a validation names its sites).

    Raises:
        UsageError: the recording states no failure, the configured donor contradicts what is given, or a text is to be
            judged without a tokenizer.
        OutputError: outputs that cannot be judged.
        InterventionError: a donor that does not fit.
        UnknownSite: a site that the model does not have.
    """
    check_choice(config, healthy)
    candidates = component_taps(model, config.granularity, embedding=True)
    named = {tap.name: tap for tap in (*candidates, *(model.sites.get(site) for site in extra_sites))}
    ground = text_grounds if predicate(incident).kind == "text" else logits_grounds
    grounds = ground(model, incident, list(named.values()), config, healthy)
    notes = list(grounds.warnings)
    failing = len(grounds.cases)
    if 0 < failing < len(incident.samples):
        notes.append(f"{len(incident.samples) - failing} of {len(incident.samples)} samples do not fail on replay")
    patch, cases, left_out = _covered(grounds.patch, grounds.cases)
    wants_mean = bool(cases) and "mean" in config.intervention_types
    mean = mean_donor(model, healthy.benign, grounds.taps, healthy.recall) if wants_mean else None
    features = {tap.name: int(grounds.base.activations[tap.name][0].shape[1]) for tap in grounds.taps}
    return Prepared(
        model=model,
        calls=grounds.calls,
        runner=BatchedRunner(model, grounds.calls, predicate(incident).position, config.max_batch_rows),
        taps=grounds.taps,
        base=grounds.base,
        sources=Sources(patch, mean, features, grounds.spoken),
        cases=tuple(cases),
        replay=grounds.replay.model_copy(update={"failing": failing}),
        warnings=(*notes, *left_out),
        donor_recording=grounds.donor_recording,
        decoder=grounds.decoder,
    )


def _covered(patch: PatchDonor | None, cases: list[Case]) -> tuple[PatchDonor | None, list[Case], list[str]]:
    """One donor must serve all cases: leave out those it does not cover, or the donor if these are the majority."""
    if patch is None or not cases:
        return patch, cases, []
    covered = [case for case in cases if patch.has(case.sample)]
    missing = len(cases) - len(covered)
    if not missing:
        return patch, cases, []
    if missing > len(covered):
        text = f"only {len(covered)} of {len(cases)} failing samples have a donor: it is not used"
        return None, cases, [text]
    return patch, covered, [f"{missing} failing samples were left out: they have no donor"]
