"""Which donor serves a search: the one that is asked for, else the best there is; never one in another's place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from model_forensics.cca.calls import Calls
from model_forensics.cca.donors import PatchDonor, chosen_donor, contrast_donor, reference_donor, same_input_donor
from model_forensics.cca.given import GivenValues, given_donor
from model_forensics.cca.recall import Recall, anew
from model_forensics.cca.replay import Run, predicate
from model_forensics.config import CausalConfig
from model_forensics.errors import InterventionError, UsageError
from model_forensics.models import Model, Tap
from model_forensics.types import Recording


@dataclass(frozen=True)
class Healthy:
    """What the operator gives beside the incident.

    Attributes:
        recall: keeps what is computed of it.
    """

    benign: Sequence[Recording] = ()
    donor_model: Model | None = None
    contrast: Recording | None = None
    values: GivenValues | None = None
    recall: Recall = anew

    def named(self) -> list[str]:
        """The donors that were given on purpose; benign recordings also serve other ends."""
        given = {"reference_model": self.donor_model, "contrast": self.contrast, "given": self.values}
        return [name for name, value in given.items() if value is not None]


def check_choice(config: CausalConfig, healthy: Healthy) -> None:
    """Whether the configured donor is there, and nothing that is given would take its place or be left unused.

    Raises:
        UsageError: it is not, or more than one donor is given.
    """
    named = healthy.named()
    if config.donor == "auto":
        if len(named) > 1:
            raise UsageError(
                f"{' and '.join(named)} are given, and patches have one donor",
                where="modules.cca.donor",
                cure="Give only the donor that is meant",
            )
        return
    present = [*named, *(["benign_sample"] if healthy.benign else [])]
    if config.donor not in present:
        raise UsageError(
            f"donor '{config.donor}' is asked for and not given",
            where="modules.cca.donor",
            cure="Give a donor model, a contrast recording, values or benign recordings, or let donor be 'auto'",
        )
    others = [name for name in named if name != config.donor]
    if others:
        raise UsageError(
            f"donor '{config.donor}' is asked for and {' and '.join(others)} is given too",
            where="modules.cca.donor",
            cure="Give only the donor that is meant, or let donor be 'auto'",
        )


def patch_donor(
    model: Model,
    incident: Recording,
    calls: Calls,
    taps: Sequence[Tap],
    base: Run,
    config: CausalConfig,
    healthy: Healthy,
) -> tuple[PatchDonor | None, tuple[str, ...]]:
    """The donor of `patch`, or None, and warnings; see `donors` for the order.

    Raises:
        InterventionError: it does not fit, was made with another tokeniser, is not finite, or is asked for and
            not there.
        UnknownSite: the donor model lacks a site.
    """
    failure = predicate(incident)
    warnings: tuple[str, ...] = ()
    donor: PatchDonor | None
    if healthy.donor_model is not None:
        check_tokens(incident, healthy.donor_model.reference.tokenizer_digest, healthy.donor_model.source)
        donor = reference_donor(healthy.donor_model, calls, taps, failure.position, healthy.recall)
    elif healthy.values is not None:
        donor = given_donor(incident, healthy.values, taps, base)
    elif healthy.contrast is not None:
        check_recording(incident, healthy.contrast)
        donor = contrast_donor(model, incident, healthy.contrast, taps, healthy.recall)
    else:
        for recording in healthy.benign:
            check_recording(incident, recording)
        if config.donor_sample is not None:
            donor = chosen_donor(model, incident, healthy.benign, config.donor_sample, taps, healthy.recall)
        else:
            donor, warnings = same_input_donor(incident, failure, healthy.benign, taps)
            if donor is None and config.donor == "benign_sample":
                raise InterventionError(
                    "no benign sample has the same input as a sample of the incident and does not fail",
                    where="modules.cca.donor",
                    cure="Name a sample whose tokens correspond to the incident's as donor_sample, or use 'mean'",
                )
    if donor is not None:
        check_finite(donor)
    return donor, warnings


def check_recording(incident: Recording, other: Recording) -> None:
    check_tokens(incident, other.model.tokenizer_digest if other.model else None, other.path or other.bundle_id)


def check_tokens(incident: Recording, theirs: str | None, where: object) -> None:
    """Token ids mean the same only under one tokeniser; where either is unknown nothing can be said."""
    ours = incident.model.tokenizer_digest if incident.model else None
    if ours is not None and theirs is not None and ours != theirs:
        raise InterventionError(
            f"the donor's tokenizer digest {theirs} differs from the incident's {ours}",
            where=str(where),
            cure="Give a donor with the incident's tokenizer: its token ids mean something else",
        )


def check_finite(donor: PatchDonor) -> None:
    for site, values in donor.rows.items():
        if not all(rows is None or bool(torch.isfinite(rows).all()) for rows in values):
            raise InterventionError(
                f"the donor's activations ({donor.description.source}) hold NaN or Inf",
                where=site,
                cure="Give a donor whose own run is healthy",
            )
