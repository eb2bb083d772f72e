"""From a model and recordings to a pool of candidates and the cases they are tried on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from model_forensics.cca.batched import BatchedRunner
from model_forensics.cca.calls import Calls, recorded_logits
from model_forensics.cca.donors import (
    PatchDonor,
    contrast_donor,
    equal_length_donor,
    mean_donor,
    reference_donor,
    same_input_donor,
)
from model_forensics.cca.jobs import Logits
from model_forensics.cca.pool import Sources, component_taps, without_cuts
from model_forensics.cca.replay import Case, Run, compare, failing_cases, predicate, run_recording
from model_forensics.config import CausalConfig
from model_forensics.errors import OutputError, UsageError
from model_forensics.models import Model, Tap
from model_forensics.types import Recording, Replay


@dataclass(frozen=True)
class Prepared:
    """Everything that a search or a validation starts from."""

    model: Model
    calls: Calls
    runner: BatchedRunner
    taps: tuple[Tap, ...]
    base: Run
    sources: Sources
    cases: tuple[Case, ...]
    replay: Replay
    warnings: tuple[str, ...]


def prepare(
    model: Model,
    incident: Recording,
    *,
    config: CausalConfig,
    benign: Sequence[Recording] = (),
    donor_model: Model | None = None,
    contrast: Recording | None = None,
    extra_sites: Sequence[str] = (),
) -> Prepared:
    """Replay the incident, find its failing samples, collect donors once per site.

    Args:
        extra_sites: read and given donors besides the components (a validation names its sites).

    Raises:
        UsageError: the recording states no failure, or the configured donor contradicts what is given.
        OutputError: outputs that cannot be judged.
        InterventionError: a donor that does not fit.
        UnknownSite: a site that the model does not have.
    """
    failure = predicate(incident)
    calls = Calls(incident, model.device)
    candidates = component_taps(model, config.granularity, embedding=donor_model is not None)
    named = {tap.name: tap for tap in (*candidates, *(model.sites.get(site) for site in extra_sites))}
    base = run_recording(model, calls, list(named.values()), failure.position)
    taps = without_cuts(list(named.values()), base)
    replay, warnings = compare(incident, base, model.reference.dtype)
    _check_donor(config, benign, donor_model, contrast)
    patch = _patch_donor(model, incident, calls, taps, benign, donor_model, contrast)
    references = _references(incident, patch)
    cases = failing_cases(incident, base, references)
    cases = [_with_donor(case, patch, references[case.sample]) for case in cases]
    replay = replay.model_copy(update={"failing": len(cases)})
    notes = list(warnings)
    if 0 < len(cases) < len(incident.samples):
        notes.append(f"{len(incident.samples) - len(cases)} of {len(incident.samples)} samples do not fail on replay")
    patch, cases, left_out = _covered(patch, cases)
    notes += left_out
    mean = mean_donor(model, benign, taps) if cases and "mean" in config.intervention_types else None
    features = {tap.name: int(base.activations[tap.name][0].shape[1]) for tap in taps}
    runner = BatchedRunner(model, calls, failure.position, config.max_batch_rows)
    sources = Sources(patch, mean, features)
    return Prepared(model, calls, runner, taps, base, sources, tuple(cases), replay, tuple(notes))


def _check_donor(
    config: CausalConfig, benign: Sequence[Recording], donor_model: Model | None, contrast: Recording | None
) -> None:
    """Whether the configured donor is there, and nothing that is given would take its place or be left unused."""
    given = {"reference_model": donor_model, "contrast": contrast, "benign_sample": list(benign) or None}
    if config.donor == "auto":
        return
    if given[config.donor] is None:
        raise UsageError(
            f"donor '{config.donor}' is asked for and not given",
            where="modules.cca.donor",
            cure="Give a donor model, a contrast recording or benign recordings, or let donor be 'auto'",
        )
    others = [name for name in ("reference_model", "contrast") if name != config.donor and given[name] is not None]
    if others:
        raise UsageError(
            f"donor '{config.donor}' is asked for and {' and '.join(others)} is given too",
            where="modules.cca.donor",
            cure="Give only the donor that is meant, or let donor be 'auto'",
        )


def _patch_donor(
    model: Model,
    incident: Recording,
    calls: Calls,
    taps: Sequence[Tap],
    benign: Sequence[Recording],
    donor_model: Model | None,
    contrast: Recording | None,
) -> PatchDonor | None:
    """The best donor there is; see `donors` for the order."""
    failure = predicate(incident)
    if donor_model is not None:
        return reference_donor(donor_model, calls, taps, failure.position)
    same = same_input_donor(incident, failure, benign, taps)
    if same is not None:
        return same
    if contrast is not None:
        return contrast_donor(model, incident, contrast, taps)
    return equal_length_donor(model, incident, benign, taps)


def _references(incident: Recording, patch: PatchDonor | None) -> list[Logits | None]:
    """A healthy run's logits on the same input: as recorded, else the donor's if its input is the same.

    Raises:
        OutputError: recorded reference logits have another size than the model's outputs.
    """
    references: list[Logits | None] = []
    for index in range(len(incident.samples)):
        recorded = recorded_logits(incident, index, "reference_logits")
        if recorded is not None and not np.isfinite(recorded).all():
            raise OutputError(
                f"reference logits of sample {incident.samples[index].sample_id} hold NaN or Inf",
                where=incident.bundle_id,
                cure="Record them from a model that works",
            )
        if recorded is None and patch is not None and patch.description.same_input:
            recorded = patch.logits[index]
        references.append(recorded)
    return references


def _with_donor(case: Case, patch: PatchDonor | None, reference: Logits | None) -> Case:
    """The case with the donor's output and its score; without a donor the recorded reference stands in for it."""
    logits = patch.logits[case.sample] if patch is not None else reference
    if logits is None:
        logits = reference
    if logits is None or logits.shape != case.failed.shape:
        return case
    finite = bool(np.isfinite(logits).all())
    score = case.failure.score(logits, case.reference) if finite else None
    return replace(case, donor=logits if finite else None, donor_score=score)


def _covered(patch: PatchDonor | None, cases: list[Case]) -> tuple[PatchDonor | None, list[Case], list[str]]:
    """One donor must serve all cases: leave out those it does not cover, or the donor if these are the majority."""
    if patch is None or not cases:
        return patch, cases, []
    covered = [case for case in cases if patch.has(case.sample)]
    missing = len(cases) - len(covered)
    if not missing:
        return patch, cases, []
    if missing > len(covered):
        text = (
            f"only {len(covered)} of {len(cases)} failing samples have a benign run of the same input: it is not used"
        )
        return None, cases, [text]
    return patch, covered, [f"{missing} failing samples were left out: no benign run of the same input"]
