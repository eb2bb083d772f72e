"""Donors where the failure is a `text`: healthy runs that continue the incident's prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from model_forensics.cca.calls import Calls, recorded_logits
from model_forensics.cca.choice import Healthy, check_finite, check_recording, check_tokens, patch_donor
from model_forensics.cca.donors import (
    PatchDonor,
    SamplePlace,
    benign_places,
    from_records,
    recorded_rows,
    reference_donor,
)
from model_forensics.cca.jobs import Logits
from model_forensics.cca.pool import without_cuts
from model_forensics.cca.prompted import Prompted, recorded_continuation
from model_forensics.cca.recall import Recall
from model_forensics.cca.replay import run_recording
from model_forensics.cca.sequences import Sequences, Tokens, prompt_of
from model_forensics.errors import InterventionError
from model_forensics.models import Model, Tap
from model_forensics.types import Recording

Complete = Callable[[Tokens], bool]


@dataclass(frozen=True)
class TextDonor:
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


def text_donor(
    model: Model,
    prompted: Prompted,
    failed: Sequence[Tokens],
    taps: Sequence[Tap],
    healthy: Healthy,
    complete: Complete,
) -> tuple[TextDonor, tuple[str, ...]]:
    """What the incident's prompts are continued with by a healthy run, with notes for people.

    Args:
        failed: what the model generates on them.
        complete: whether a continuation is as long as it can be.

    Raises:
        InterventionError, OutputError: as `prepare`.
    """
    if healthy.donor_model is not None:
        return _reference(healthy.donor_model, prompted, failed, taps, healthy.recall)
    asked = healthy.contrast is not None or healthy.values is not None or prompted.config.donor_sample is not None
    if not asked:
        found, notes = _same_prompt(prompted, healthy.benign, taps, complete)
        if found.patch is None and prompted.config.donor == "benign_sample":
            raise InterventionError(
                "no benign sample has the same prompt as a sample of the incident and does not fail",
                where="modules.cca.donor",
                cure="Name a sample whose tokens correspond to the incident's as donor_sample, or use 'mean'",
            )
        return found, notes
    # On other inputs the donor's continuation is another one, so nothing of it is put behind these prompts.
    alone = Sequences(prompted.incident, prompted.prompts)
    calls = Calls(alone, model.device)
    base = run_recording(model, calls, taps, -1)
    others = Healthy(
        benign=[_prompts_only(recording) for recording in healthy.benign],
        contrast=None if healthy.contrast is None else _prompts_only(healthy.contrast),
        values=healthy.values,
        recall=healthy.recall,
    )
    patch, notes = patch_donor(model, alone, calls, without_cuts(taps, base), base, prompted.config, others)
    assert patch is not None, "a donor that is named is there, or an error"
    return TextDonor(patch, [None] * len(prompted.prompts), alone, lambda _: patch.logits), notes


def _prompts_only(recording: Recording) -> Recording:
    return Sequences(recording, [prompt_of(recording, index) for index in range(len(recording.samples))])


def _reference(
    donor_model: Model, prompted: Prompted, failed: Sequence[Tokens], taps: Sequence[Tap], recall: Recall
) -> tuple[TextDonor, tuple[str, ...]]:
    """The donor model, continuing the prompts by itself."""
    check_tokens(prompted.incident, donor_model.reference.tokenizer_digest, donor_model.source)
    said = prompted.continued(prompted.decoder(donor_model), failed)
    along = prompted.along([tokens[:-1] for tokens in said])
    patch = reference_donor(donor_model, Calls(along, donor_model.device), taps, -1, recall)
    check_finite(patch)
    failing = sum(prompted.failure.text_fails(prompted.decode(tokens)) for tokens in said)
    notes = (f"the donor model's own continuations fail in {failing} of {len(said)} samples",) if failing else ()

    def logits(scored: Recording) -> tuple[Logits | None, ...]:
        return run_recording(donor_model, Calls(scored, donor_model.device), (), -1).logits

    return TextDonor(patch, said, along, logits), notes


def _same_prompt(
    prompted: Prompted, benign: Sequence[Recording], taps: Sequence[Tap], complete: Complete
) -> tuple[TextDonor, tuple[str, ...]]:
    """Benign samples with the same prompt. One whose recorded continuation fails is passed over, and a warning counts
    these; of the others those go first that were recorded as generations, then those with most recorded sites.
    """
    failure = prompted.failure
    failing: set[tuple[str, int]] = set()
    available: dict[Tokens, list[tuple[SamplePlace, Tokens]]] = {}
    for recording in benign:
        check_recording(prompted.incident, recording)
    for recording, index in benign_places(benign):
        said = recorded_continuation(recording, index)[: failure.max_new_tokens]
        judged = complete(said) or (said and failure.wrong_pattern is not None)  # a beginning may lack what is right
        if judged and failure.text_fails(prompted.decode(said)):
            failing.add((recording.bundle_id, index))
        else:
            available.setdefault(prompt_of(recording, index), []).append(((recording, index), said))
    chosen: list[SamplePlace | None] = []
    continued: list[Tokens | None] = []
    for prompt in prompted.prompts:
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

    along = prompted.along([(tokens or ())[:-1] for tokens in continued])
    return TextDonor(patch, continued, along, logits), tuple(notes)


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
