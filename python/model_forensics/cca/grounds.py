"""What a search stands on, for failures that are judged on logits: the replay, the donor, the samples that fail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from model_forensics.cca.calls import Calls, recorded_logits
from model_forensics.cca.choice import Healthy, patch_donor
from model_forensics.cca.continuations import Decoder
from model_forensics.cca.donors import PatchDonor
from model_forensics.cca.jobs import Logits
from model_forensics.cca.pool import Spoken, without_cuts
from model_forensics.cca.replay import Case, Run, compare, failing_cases, predicate, run_recording
from model_forensics.config import CausalConfig
from model_forensics.errors import OutputError
from model_forensics.models import Model, Tap
from model_forensics.types import Recording, Replay


@dataclass(frozen=True)
class Grounds:
    """
    Attributes:
        calls: the runs that are scored: the incident's own, or of a `text` failure its prompts, each followed by the
            tokens that the failed and the reference's continuation begin with alike.
        base: these runs, unedited.
        donor_recording: what the donor of `patch` runs on; longer than `calls` where the failure is a `text`.
        spoken, decoder: of `text` failures, else None.
    """

    calls: Calls
    base: Run
    taps: tuple[Tap, ...]
    replay: Replay
    patch: PatchDonor | None
    cases: list[Case]
    donor_recording: Recording
    warnings: tuple[str, ...]
    spoken: Spoken | None = None
    decoder: Decoder | None = None


def logits_grounds(
    model: Model, incident: Recording, taps: Sequence[Tap], config: CausalConfig, healthy: Healthy
) -> Grounds:
    """Replays the incident's calls as recorded.

    Raises:
        As `prepare`.
    """
    failure = predicate(incident)
    calls = Calls(incident, model.device)
    base = run_recording(model, calls, taps, failure.position)
    taps = without_cuts(taps, base)
    replay, warnings = compare(incident, base, model.reference.dtype)
    patch, notes = patch_donor(model, incident, calls, taps, base, config, healthy)
    references = _references(incident, patch)
    cases = failing_cases(incident, base, references)
    cases = [_with_donor(case, patch, references[case.sample]) for case in cases]
    return Grounds(calls, base, taps, replay, patch, cases, incident, (*warnings, *notes))


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
