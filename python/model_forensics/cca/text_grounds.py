"""What a search stands on where the failure is a `text`: continuations in place of recorded outputs.

The prompts are continued by the incident's model and, on the same prompts, by the donor. What both begin with alike is
put behind each prompt: there the two runs part, and the logits behind it are scored as those of any other failure. The
predicate is judged on whole continuations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from model_forensics.cca.calls import Calls
from model_forensics.cca.choice import Healthy, check_tokens
from model_forensics.cca.continuations import Continuation, common
from model_forensics.cca.donors import PatchDonor
from model_forensics.cca.grounds import Grounds
from model_forensics.cca.pool import Spoken, without_cuts
from model_forensics.cca.prompted import Prompted
from model_forensics.cca.replay import Case, Run, compare, predicate, run_recording
from model_forensics.cca.sequences import Tokens
from model_forensics.cca.telling import Telling, decoder_of
from model_forensics.cca.text_donors import text_donor
from model_forensics.config import CausalConfig
from model_forensics.failure import Failure
from model_forensics.models import Model, Tap
from model_forensics.types import Recording, Replay


def text_grounds(
    model: Model, incident: Recording, taps: Sequence[Tap], config: CausalConfig, healthy: Healthy
) -> Grounds:
    """Continues the incident's prompts.

    Raises:
        UsageError: the model has no tokenizer.
        OutputError: inputs that are no tokens, samples with answers of their own, a continuation that ends in NaN.
        Others as `prepare`.
    """
    failure = predicate(incident)
    decode = decoder_of(model)
    for sample in incident.samples:
        failure.with_answers(sample.wrong, sample.right)
    check_tokens(incident, model.reference.tokenizer_digest, model.source)
    prompted = Prompted.of(incident, decode, config)
    decoder = prompted.decoder(model)
    failed = prompted.continued(decoder, prompted.recorded)
    replay, warnings = _replayed(model, prompted, failed)
    donor, notes = text_donor(model, prompted, failed, taps, healthy, decoder.is_complete)
    tellings = [Telling(ours, theirs, decode) for ours, theirs in zip(failed, donor.said, strict=True)]
    scored = prompted.along([telling.shared for telling in tellings])
    calls = Calls(scored, model.device)
    base = run_recording(model, calls, taps, -1)
    patch = donor.patch
    if patch is not None:
        patch = replace(patch, logits=donor.logits(scored))
    for index, telling in enumerate(tellings):
        for tokens in (telling.failed, telling.reference):
            decoder.expect(index, tokens or ())
    cases = _failing(incident, failure, base, tellings, patch)
    untold = all(case.text is None or case.text.reference is None for case in cases)
    if cases and failure.right_pattern is None and untold:
        text = "nothing tells a right continuation: a set can suppress the failure, and not be shown to fix it"
        notes = (*notes, text)
    return Grounds(
        calls=calls,
        base=base,
        taps=without_cuts(taps, base),
        replay=replay,
        patch=patch,
        cases=cases,
        donor_recording=donor.recording,
        warnings=(*warnings, *notes),
        spoken=Spoken(
            prompts=tuple(len(prompt) for prompt in prompted.prompts),
            scored=tuple(telling.shared for telling in tellings),
            donor=tuple(tokens or () for tokens in donor.said),
        ),
        decoder=decoder,
    )


def _replayed(model: Model, prompted: Prompted, failed: Sequence[Tokens]) -> tuple[Replay, tuple[str, ...]]:
    """The recorded outputs and the recorded continuations against those of now."""
    run = run_recording(model, Calls(prompted.incident, model.device), (), -1)
    replay, warnings = compare(prompted.incident, run, model.reference.dtype)
    other = [common(then, now) < min(len(then), len(now)) for then, now in zip(prompted.recorded, failed, strict=True)]
    if not any(other):
        return replay, warnings
    text = f"{sum(other)} of {len(other)} samples are continued otherwise than they were when they were recorded"
    return replay.model_copy(update={"reproduced": False, "bit_identical": False}), (*warnings, text)


def _failing(
    incident: Recording, failure: Failure, base: Run, tellings: Sequence[Telling], patch: PatchDonor | None
) -> list[Case]:
    """The samples whose continuation fails."""
    cases = []
    for index, (sample, telling) in enumerate(zip(incident.samples, tellings, strict=True)):
        failed = base.logits[index]
        score, outcome = telling.judge(failure, failed, Continuation(telling.failed))
        if outcome != "failed":
            continue
        donor = None if patch is None else patch.logits[index]
        if donor is not None and (donor.shape != failed.shape or not np.isfinite(donor).all()):
            donor = None
        donor_score = None
        if donor is not None and telling.reference is not None:
            donor_score, _ = telling.judge(failure, donor, Continuation(telling.reference))
        cases.append(Case(index, sample.group, failure, failed, score, donor, donor, donor_score, telling))
    return cases
