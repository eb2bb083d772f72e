"""Where replacement activations come from.

One donor serves all `patch` interventions of a search. A donor that ran on the very same input is the only one whose
activations correspond position by position and whose output says what a repair must restore: a reference model, or a
benign sample of the same input. A contrast recording, a benign sample that is named and given values can remove a
failure by carrying another answer in, so what they find is never called a cause.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from model_forensics.cca.calls import Calls, fingerprint, recorded_logits
from model_forensics.cca.jobs import Logits
from model_forensics.cca.recall import Recall, anew, healthy_run, inputs_digest
from model_forensics.cca.replay import Run
from model_forensics.errors import InterventionError
from model_forensics.failure import Failure
from model_forensics.models import Model, Tap
from model_forensics.types import Donor, DonorKind, Recording, Sparse

MAX_BENIGN_SAMPLES = 256
"""Benign samples that are looked at; the first of each recording in turn, so that no recording crowds others out."""

SamplePlace = tuple[Recording, int]


@dataclass(frozen=True)
class PatchDonor:
    """The donor of `patch`: activations and logits per incident sample.

    Attributes:
        logits: per incident sample, [classes] of the donor's run, None where unknown or no donor.
        rows: per site, per incident sample, [rows, features] on the CPU (or [1, features] for every token), None where
            the donor has none.
        anywhere: per site, [1, features] that the donor writes at every token of whatever input.
    """

    description: Donor
    logits: tuple[Logits | None, ...]
    rows: dict[str, tuple[torch.Tensor | None, ...]]
    anywhere: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def serves(self, site: str, samples: Sequence[int]) -> bool:
        return site in self.rows and all(self.rows[site][i] is not None for i in samples)

    def has(self, sample: int) -> bool:
        """Whether any activation of this sample can be replaced."""
        return any(rows[sample] is not None for rows in self.rows.values()) or self.logits[sample] is not None


@dataclass
class MeanDonor:
    """The donor of `mean`: per site, [1, features], the mean over all real tokens of the benign recordings."""

    description: Donor
    rows: dict[str, torch.Tensor] = field(default_factory=dict)


def benign_places(benign: Sequence[Recording]) -> list[SamplePlace]:
    """Up to `MAX_BENIGN_SAMPLES` samples, taken from the recordings in turn."""
    places: list[SamplePlace] = []
    longest = max((len(recording.samples) for recording in benign), default=0)
    for index in range(longest):
        for recording in benign:
            if index < len(recording.samples):
                places.append((recording, index))
    return places[:MAX_BENIGN_SAMPLES]


def recorded_rows(recording: Recording, site: str, sample: int) -> torch.Tensor | None:
    """[rows, features] as recorded; None where the site was not recorded densely for this sample."""
    if site not in recording.sites or not recording.has_activation(site, sample):
        return None
    value = recording.activation(site, sample)
    if isinstance(value, Sparse):
        return None  # absent entries are unknown, not zero: it cannot stand in for a whole activation
    return torch.from_numpy(np.array(value))


def reference_donor(donor_model: Model, calls: Calls, taps: Sequence[Tap], position: int, recall: Recall) -> PatchDonor:
    """The donor model run on the incident's own calls, in the same batch composition.

    Raises:
        UnknownSite: the donor model lacks a site.
        InterventionError: a site has another width there.
    """
    theirs = [donor_model.sites.get(tap.name) for tap in taps]
    for tap, other in zip(taps, theirs, strict=True):
        if tap.features != other.features:
            raise InterventionError(
                f"the donor model has {other.features} features and the incident's model {tap.features}",
                where=tap.name,
                cure="Give a donor model of the same architecture",
            )
    run = healthy_run(recall, donor_model, Calls(calls.recording, donor_model.device), theirs, position)
    description = Donor(
        kind="reference_model",
        source=donor_model.source,
        weights_digest=donor_model.reference.weights_digest,
        same_input=True,
    )
    return PatchDonor(description, run.logits, {name: tuple(rows) for name, rows in run.activations.items()})


def same_input_donor(
    incident: Recording, failure: Failure, benign: Sequence[Recording], taps: Sequence[Tap]
) -> tuple[PatchDonor | None, tuple[str, ...]]:
    """Benign samples with the very same input (last week's version answered the same request), from their records.

    A benign sample whose recorded output itself fails the incident's predicate is passed over, and a warning counts
    these. None where no incident sample has one.
    """
    failing = 0
    available: dict[str, list[SamplePlace]] = {}
    for place in benign_places(benign):
        available.setdefault(fingerprint(*place), []).append(place)
    chosen: list[SamplePlace | None] = []
    for index, sample in enumerate(incident.samples):
        own = failure.with_answers(sample.wrong, sample.right)
        same = available.get(fingerprint(incident, index), [])
        places = [p for p in same if not _fails(own, p)]
        failing += len(same) - len(places)
        # The one with most recorded components; min() keeps the first of equals.
        chosen.append(min(places, key=lambda p: -sum(tap.name in p[0].sites for tap in taps), default=None))
    text = f"{failing} benign samples of the same input fail as the incident does: they are no donors"
    warnings = (text,) if failing else ()
    if not any(chosen):
        return None, warnings
    return from_records("benign_sample", chosen, taps, same_input=True), warnings


def _fails(failure: Failure, place: SamplePlace) -> bool:
    logits = recorded_logits(*place)
    if logits is None or failure.kind == "divergence":
        return False  # divergence is measured from a healthy run, which is what this sample would be
    return not np.isfinite(logits).all() or failure.score(logits) > 0


def contrast_donor(
    model: Model, incident: Recording, contrast: Recording, taps: Sequence[Tap], recall: Recall
) -> PatchDonor:
    """A recording whose samples pair with the incident's by order; sites it lacks are computed with the model.

    Raises:
        InterventionError: it has another number of samples, or a pair has different token counts.
    """
    if len(contrast.samples) != len(incident.samples):
        raise InterventionError(
            f"it holds {len(contrast.samples)} samples and the incident {len(incident.samples)}",
            where=contrast.bundle_id,
            cure="Record one contrast input for each incident sample, in the same order",
        )
    for ours, theirs in zip(incident.samples, contrast.samples, strict=True):
        if ours.tokens != theirs.tokens:
            raise InterventionError(
                f"contrast sample {theirs.sample_id} has {theirs.tokens} tokens and {ours.sample_id} has {ours.tokens}",
                where=contrast.bundle_id,
                cure="Positions correspond only between inputs of equal token counts: reword the contrast input",
            )
    order = range(len(incident.samples))
    same = all(fingerprint(incident, i) == fingerprint(contrast, i) for i in order)
    donor = from_records("contrast", [(contrast, i) for i in order], taps, same_input=same)
    return _complete(model, donor, [(contrast, i) for i in order], taps, recall)


def chosen_donor(
    model: Model, incident: Recording, benign: Sequence[Recording], name: str, taps: Sequence[Tap], recall: Recall
) -> PatchDonor:
    """One benign sample for all samples of the incident. Naming it declares that its token i stands for their token i.

    Raises:
        InterventionError: no sample or several have this name; an incident sample has another number of tokens.
    """
    places = [
        (r, i) for r in benign for i, s in enumerate(r.samples) if name in (s.sample_id, f"{r.bundle_id}/{s.sample_id}")
    ]
    if len(places) != 1:
        raise InterventionError(
            f"{len(places) or 'no'} benign samples are named {name!r}",
            where="modules.cca.donor_sample",
            cure="Give the sample_id of one, or bundle id/sample id",
        )
    recording, index = places[0]
    tokens = recording.samples[index].tokens
    for sample in incident.samples:
        if sample.tokens != tokens:
            raise InterventionError(
                f"donor sample {name} has {tokens} tokens and {sample.sample_id} has {sample.tokens}",
                where=recording.bundle_id,
                cure="Positions correspond only between inputs of equal token counts: name another one, or use 'mean'",
            )
    own = fingerprint(recording, index)
    same = all(fingerprint(incident, i) == own for i in range(len(incident.samples)))
    chosen = places * len(incident.samples)
    return _complete(model, from_records("benign_sample", chosen, taps, same_input=same), chosen, taps, recall)


def from_records(
    kind: DonorKind, chosen: Sequence[SamplePlace | None], taps: Sequence[Tap], *, same_input: bool
) -> PatchDonor:
    recordings = {p[0].bundle_id: p[0] for p in chosen if p is not None}
    paths = sorted(str(r.path or r.bundle_id) for r in recordings.values())
    digests = {r.model.weights_digest if r.model else None for r in recordings.values()}
    description = Donor(
        kind=kind,
        source="; ".join(paths),
        weights_digest=digests.pop() if len(digests) == 1 else None,
        same_input=same_input,
    )
    rows: dict[str, tuple[torch.Tensor | None, ...]] = {}
    for tap in taps:
        values = tuple(None if p is None else recorded_rows(p[0], tap.name, p[1]) for p in chosen)
        if any(value is not None for value in values):
            rows[tap.name] = values
    return PatchDonor(description, tuple(None if p is None else recorded_logits(*p) for p in chosen), rows)


def _complete(
    model: Model, donor: PatchDonor, places: Sequence[SamplePlace], taps: Sequence[Tap], recall: Recall
) -> PatchDonor:
    """Compute with the incident's model what the donor's recordings do not hold."""
    samples = range(len(places))
    missing = [tap for tap in taps if not donor.serves(tap.name, samples)]
    if not missing:
        return donor
    runs = _runs(model, places, missing, recall)
    rows = dict(donor.rows)
    for tap in missing:
        rows[tap.name] = tuple(runs[recording.bundle_id].activations[tap.name][i] for recording, i in places)
    logits = tuple(
        own if own is not None else runs[recording.bundle_id].logits[i]
        for own, (recording, i) in zip(donor.logits, places, strict=True)
    )
    return PatchDonor(donor.description, logits, rows)


def mean_donor(model: Model, benign: Sequence[Recording], taps: Sequence[Tap], recall: Recall) -> MeanDonor | None:
    """Mean per feature over the real tokens of the benign samples; None without benign samples.

    Recorded activations where a site was recorded, else the incident's model run on the benign inputs.

    Raises:
        InterventionError: benign recordings have another width at a site, or hold NaN or Inf there.
    """
    places = benign_places(benign)
    if not places:
        return None
    source = "; ".join(sorted({str(recording.path or recording.bundle_id) for recording, _ in places}))
    donor = MeanDonor(Donor(kind="benign_mean", source=source, same_input=False))
    missing = []
    for tap in taps:
        values = [rows for place in places if (rows := recorded_rows(place[0], tap.name, place[1])) is not None]
        if values:
            donor.rows[tap.name] = _mean(tap, values)
        else:
            missing.append(tap)
    if missing:
        donor.rows.update(_computed_means(model, places, missing, recall))
    return donor


def _computed_means(
    model: Model, places: Sequence[SamplePlace], taps: Sequence[Tap], recall: Recall
) -> dict[str, torch.Tensor]:
    """Kept as means: a row a site, where the runs would be one a token."""

    def compute() -> dict[str, torch.Tensor]:
        runs = _runs(model, places, taps, anew)
        return {
            tap.name: _mean(tap, [runs[one.bundle_id].activations[tap.name][i] for one, i in places]) for tap in taps
        }

    recordings = {recording.bundle_id: recording for recording, _ in places}
    order = {name: number for number, name in enumerate(recordings)}
    of = {
        "mean": [inputs_digest(recording) for recording in recordings.values()],
        "sites": [tap.name for tap in taps],
        "samples": [[order[recording.bundle_id], index] for recording, index in places],
    }
    return recall(model, of, compute)


def _runs(model: Model, places: Sequence[SamplePlace], taps: Sequence[Tap], recall: Recall) -> Mapping[str, Run]:
    recordings = {recording.bundle_id: recording for recording, _ in places}
    return {
        name: healthy_run(recall, model, Calls(recording, model.device), taps, _scored_position(recording))
        for name, recording in recordings.items()
    }


def _scored_position(recording: Recording) -> int:
    return -1 if recording.failure is None else recording.failure.position


def _mean(tap: Tap, values: Sequence[torch.Tensor]) -> torch.Tensor:
    if any(value.shape[1] != tap.features for value in values):
        raise InterventionError(
            f"benign recordings do not have the site's {tap.features} features",
            where=tap.name,
            cure="Give benign recordings of the same architecture",
        )
    total = sum(
        (value.to(torch.float64).sum(dim=0) for value in values), torch.zeros(tap.features, dtype=torch.float64)
    )
    mean = total / sum(value.shape[0] for value in values)
    if not bool(torch.isfinite(mean).all()):
        raise InterventionError(
            "benign recordings hold NaN or Inf, so they have no mean",
            where=tap.name,
            cure="Leave out the recordings that are not healthy, or 'mean' from intervention_types",
        )
    return mean.unsqueeze(0).to(values[0].dtype)
