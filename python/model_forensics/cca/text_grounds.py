"""What a search stands on where the failure is a `text`: continuations in place of recorded outputs.

The prompts are continued by the incident's model and, on the same prompts, by the donor. What both begin with alike is
put behind each prompt: there the two runs part, and the logits behind it are scored as those of any other failure. The
predicate is judged on whole continuations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from model_forensics.cca.calls import Calls, recorded_logits
from model_forensics.cca.choice import Healthy, check_finite, check_recording, check_tokens, patch_donor
from model_forensics.cca.continuations import Continuation, Decoder, Request, common
from model_forensics.cca.donors import (
    PatchDonor,
    SamplePlace,
    benign_places,
    from_records,
    recorded_rows,
    reference_donor,
)
from model_forensics.cca.grounds import Grounds
from model_forensics.cca.jobs import Logits
from model_forensics.cca.pool import Spoken, without_cuts
from model_forensics.cca.replay import Case, Run, compare, predicate, run_recording
from model_forensics.cca.sequences import Sequences, Tokens, own_tokens, prompt_of
from model_forensics.cca.telling import Telling, decoder_of
from model_forensics.config import CausalConfig
from model_forensics.errors import InterventionError, OutputError
from model_forensics.failure import Failure
from model_forensics.models import Model, Tap
from model_forensics.types import Recording, Replay

Decode = Callable[[Tokens], str]


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
    prompts = tuple(prompt_of(incident, index) for index in range(len(incident.samples)))
    recorded = [recorded_continuation(incident, index) for index in range(len(prompts))]
    decoder = _decoder(model, incident, prompts, config)
    failed = _continued(decoder, recorded, incident)
    replay, warnings = _replayed(model, incident, recorded, failed)
    donor, notes = _donor(model, incident, prompts, failed, taps, decode, config, healthy, decoder.is_complete)
    tellings = [Telling(ours, theirs, decode) for ours, theirs in zip(failed, donor.said, strict=True)]
    scored = Sequences(incident, [p + t.shared for p, t in zip(prompts, tellings, strict=True)])
    calls = Calls(scored, model.device)
    base = run_recording(model, calls, taps, -1)
    patch = donor.patch
    if patch is not None:
        patch = replace(patch, logits=donor.logits(scored))
    for index, telling in enumerate(tellings):
        for tokens in (telling.failed, telling.reference):
            decoder.expect(index, tokens or ())
    cases = _failing(incident, failure, base, tellings, patch)
    if (
        cases
        and failure.right_pattern is None
        and all(case.text is None or case.text.reference is None for case in cases)
    ):
        notes = (
            *notes,
            "nothing tells a right continuation: a set can suppress the failure, and not be shown to fix it",
        )
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
            prompts=tuple(len(prompt) for prompt in prompts),
            scored=tuple(telling.shared for telling in tellings),
            donor=tuple(tokens or () for tokens in donor.said),
        ),
        decoder=decoder,
    )


def recorded_continuation(recording: Recording, sample: int) -> Tokens:
    """What was generated when the sample was recorded, as far as that is known.

    The last token was never fed back: it is the one that the recorded logits, if there are any, prefer. Where it was no
    generation, this is the first one.
    """
    tokens = own_tokens(recording, sample)[len(prompt_of(recording, sample)) :]
    logits = recorded_logits(recording, sample)
    last = recording.failure is None or recording.failure.position == -1
    return (*tokens, int(np.argmax(logits))) if logits is not None and last else tokens


def _decoder(model: Model, incident: Recording, prompts: Sequence[Tokens], config: CausalConfig) -> Decoder:
    limit = predicate(incident).max_new_tokens
    assert limit is not None, "a text failure says how many tokens are generated"
    masked = any("attention_mask" in incident.inputs(sample.call) for sample in incident.samples)
    return Decoder(model, prompts, limit=limit, max_rows=config.max_batch_rows, masked=masked)


def _continued(decoder: Decoder, expected: Sequence[Tokens], incident: Recording) -> list[Tokens]:
    """What the decoder's model generates, unedited.

    Raises:
        OutputError: its logits hold NaN or Inf.
    """
    for index, tokens in enumerate(expected):
        decoder.expect(index, tokens)
    found = decoder.run([Request(index) for index in range(len(expected))])
    for sample, continuation in zip(incident.samples, found, strict=True):
        if continuation.broken:
            said = len(continuation.tokens)
            raise OutputError(
                f"logits of sample {sample.sample_id} hold NaN or Inf after {said} generated tokens",
                where=decoder.model.source or incident.bundle_id,
                cure="Record the incident with Failure.nonfinite() if that is the failure",
            )
    return [continuation.tokens for continuation in found]


def _replayed(
    model: Model, incident: Recording, recorded: Sequence[Tokens], failed: Sequence[Tokens]
) -> tuple[Replay, tuple[str, ...]]:
    """The recorded outputs and the recorded continuations against those of now."""
    run = run_recording(model, Calls(incident, model.device), (), -1)
    replay, warnings = compare(incident, run, model.reference.dtype)
    other = [common(then, now) < min(len(then), len(now)) for then, now in zip(recorded, failed, strict=True)]
    if not any(other):
        return replay, warnings
    text = f"{sum(other)} of {len(other)} samples are continued otherwise than they were when they were recorded"
    return replay.model_copy(update={"reproduced": False, "bit_identical": False}), (*warnings, text)


# --- the donor ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Donor:
    """
    Attributes:
        patch: its rows cover the prompt and, where `said` is known, the generated tokens before the last.
        said: per sample, what the donor generates on the same prompt, None where that is not known.
        recording: what it ran on.
        logits: per sample of the scored runs, [classes] behind their last token.
    """

    patch: PatchDonor | None
    said: Sequence[Tokens | None]
    recording: Recording
    logits: Callable[[Recording], tuple[Logits | None, ...]]


def _donor(
    model: Model,
    incident: Recording,
    prompts: Sequence[Tokens],
    failed: Sequence[Tokens],
    taps: Sequence[Tap],
    decode: Decode,
    config: CausalConfig,
    healthy: Healthy,
    complete: Callable[[Tokens], bool],
) -> tuple[_Donor, tuple[str, ...]]:
    if healthy.donor_model is not None:
        return _reference(healthy.donor_model, incident, prompts, failed, taps, decode, config)
    asked = healthy.contrast is not None or healthy.values is not None or config.donor_sample is not None
    if not asked:
        found, notes = _same_prompt(incident, prompts, healthy.benign, taps, decode, complete)
        if found.patch is None and config.donor == "benign_sample":
            raise InterventionError(
                "no benign sample has the same prompt as a sample of the incident and does not fail",
                where="modules.cca.donor",
                cure="Name a sample whose tokens correspond to the incident's as donor_sample, or use 'mean'",
            )
        return found, notes
    # On other inputs the donor's continuation is another one, so nothing of it is put behind these prompts.
    alone = Sequences(incident, prompts)
    calls = Calls(alone, model.device)
    base = run_recording(model, calls, taps, -1)
    others = Healthy(
        benign=[_prompts_only(recording) for recording in healthy.benign],
        contrast=None if healthy.contrast is None else _prompts_only(healthy.contrast),
        values=healthy.values,
    )
    patch, notes = patch_donor(model, alone, calls, without_cuts(taps, base), base, config, others)
    assert patch is not None, "a donor that is named is there, or an error"
    return _Donor(patch, [None] * len(prompts), alone, lambda _: patch.logits), notes


def _prompts_only(recording: Recording) -> Recording:
    return Sequences(recording, [prompt_of(recording, index) for index in range(len(recording.samples))])


def _reference(
    donor_model: Model,
    incident: Recording,
    prompts: Sequence[Tokens],
    failed: Sequence[Tokens],
    taps: Sequence[Tap],
    decode: Decode,
    config: CausalConfig,
) -> tuple[_Donor, tuple[str, ...]]:
    """The donor model, continuing the prompts by itself."""
    check_tokens(incident, donor_model.reference.tokenizer_digest, donor_model.source)
    said = _continued(_decoder(donor_model, incident, prompts, config), failed, incident)
    along = Sequences(incident, [prompt + tokens[:-1] for prompt, tokens in zip(prompts, said, strict=True)])
    patch = reference_donor(donor_model, Calls(along, donor_model.device), taps, -1)
    check_finite(patch)
    failing = sum(predicate(incident).text_fails(decode(tokens)) for tokens in said)
    notes = (f"the donor model's own continuations fail in {failing} of {len(said)} samples",) if failing else ()

    def logits(scored: Recording) -> tuple[Logits | None, ...]:
        return run_recording(donor_model, Calls(scored, donor_model.device), (), -1).logits

    return _Donor(patch, said, along, logits), notes


def _same_prompt(
    incident: Recording,
    prompts: Sequence[Tokens],
    benign: Sequence[Recording],
    taps: Sequence[Tap],
    decode: Decode,
    complete: Callable[[Tokens], bool],
) -> tuple[_Donor, tuple[str, ...]]:
    """Benign samples with the same prompt. One whose recorded continuation fails is passed over, and a warning counts
    these; of the others those go first that were recorded as generations, then those with most recorded sites.
    """
    failure = predicate(incident)
    failing: set[tuple[str, int]] = set()
    available: dict[Tokens, list[tuple[SamplePlace, Tokens]]] = {}
    for recording in benign:
        check_recording(incident, recording)
    for recording, index in benign_places(benign):
        said = recorded_continuation(recording, index)[: failure.max_new_tokens]
        judged = complete(said) or (said and failure.wrong_pattern is not None)  # a beginning may lack what is right
        if judged and failure.text_fails(decode(said)):
            failing.add((recording.bundle_id, index))
        else:
            available.setdefault(prompt_of(recording, index), []).append(((recording, index), said))
    chosen: list[SamplePlace | None] = []
    continued: list[Tokens | None] = []
    for prompt in prompts:
        found = min(available.get(prompt, []), key=lambda one: _preference(one, taps), default=None)
        chosen.append(None if found is None else found[0])
        continued.append(None if found is None else found[1] or None)
    notes = [f"{len(failing)} benign samples fail as the incident does: they are no donors"] if failing else []
    short = sum(said is not None and not complete(said) for said in continued)
    if short:
        notes.append(
            f"{short} benign continuations are shorter than max_new_tokens: they cannot show that a text is right"
        )
    patch = from_records("benign_sample", chosen, taps, same_input=True) if any(chosen) else None
    if patch is not None:
        check_finite(patch)

    def logits(scored: Recording) -> tuple[Logits | None, ...]:
        return tuple(
            None if place is None else _logits_behind(place, scored.samples[index].tokens)
            for index, place in enumerate(chosen)
        )

    along = Sequences(incident, [p + (s or ())[:-1] for p, s in zip(prompts, continued, strict=True)])
    return _Donor(patch, continued, along, logits), tuple(notes)


def _preference(found: tuple[SamplePlace, Tokens], taps: Sequence[Tap]) -> tuple[bool, int]:
    place, said = found
    return not said, -sum(tap.name in place[0].sites for tap in taps)


def _logits_behind(place: SamplePlace, tokens: int) -> Logits | None:
    """[classes] as recorded behind so many tokens: the output, if that was the last one, or the site `logits`."""
    recording, index = place
    if recording.samples[index].tokens == tokens:
        return recorded_logits(recording, index)
    rows = recorded_rows(recording, "logits", index)
    return None if rows is None else np.asarray(rows[tokens - 1].to(torch.float64).numpy())


# --- the cases ----------------------------------------------------------------------------------


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
