"""The candidates: which single interventions a search may combine, what they write, and how many bits that replaces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from model_forensics.cca.continuations import common
from model_forensics.cca.donors import MeanDonor, PatchDonor
from model_forensics.cca.jobs import Replacement, checked_positions
from model_forensics.cca.replay import Run
from model_forensics.cca.sequences import Tokens
from model_forensics.errors import InterventionError
from model_forensics.models import Model, Tap
from model_forensics.types import Intervention, InterventionKind

CAUSE_KINDS = frozenset({"attn", "mlp", "head", "neuron", "module"})
"""Kinds of sites that may be a cause with any donor. A block output is a cut through the whole model: copied from a
healthy run it always works and explains nothing. The same holds for the final norm and the logits."""

RESOLUTION_BITS = 8
"""Differences are coded to 2⁻⁸ of the replacement's root mean square."""
MAX_VALUE_BITS = 32.0
"""No value costs more: writing a float32 anew takes 32 bits."""


@dataclass(frozen=True)
class Candidate:
    """One intervention that a set may hold."""

    tap: Tap
    intervention: Intervention
    bits: float  # replaced per sample, see `replaced_bits`


def component_of(tap: Tap) -> str:
    """The attention or MLP that a head or neuron is a part of; every other site is a component by itself."""
    return tap.module if tap.kind in ("head", "neuron") else tap.name


@dataclass(frozen=True)
class Spoken:
    """Of `text` failures, per sample: which generated tokens belong to the run that is scored, and to the donor's.

    Attributes:
        prompts: tokens of the prompt.
        scored: the generated tokens that precede the scored position.
        donor: what the donor generates; () where it runs on the prompt only.
    """

    prompts: tuple[int, ...]
    scored: tuple[Tokens, ...]
    donor: tuple[Tokens, ...]

    def fitted(self, replacement: Replacement, sample: int, known: Tokens | None) -> Replacement:
        """What is written into the run of the prompt and `known` (None: the scored run).

        One row is written at every token. Rows for tokens are written at the prompt, and at generated tokens as long as
        these are the donor's own: it has no values for others, and what follows is carried on by keys and values.
        """
        known = self.scored[sample] if known is None else known
        tokens = self.prompts[sample] + len(known)
        rows, positions = replacement.values, replacement.positions
        if positions is not None:
            scored = self.prompts[sample] + len(self.scored[sample])
            positions = tuple(p for p in checked_positions(positions, scored, f"sample {sample}") if p < tokens)
        if rows.shape[0] == 1:
            return Replacement(rows, positions)
        own = min(len(rows), self.prompts[sample] + common(known, self.donor[sample]))
        if own == tokens:
            return Replacement(rows[:tokens], positions)
        padded = torch.zeros(tokens, rows.shape[1], dtype=rows.dtype)
        padded[:own] = rows[:own]
        return Replacement(padded, tuple(p for p in (range(tokens) if positions is None else positions) if p < own))


@dataclass(frozen=True)
class Sources:
    """All that interventions may write from."""

    patch: PatchDonor | None
    mean: MeanDonor | None
    features: Mapping[str, int]  # per site, as the replay computed them
    spoken: Spoken | None = None

    def intervention(self, site: str, kind: InterventionKind) -> Intervention:
        """The intervention with its donor.

        Raises:
            InterventionError: there is no donor for this kind at this site.
        """
        if kind == "zero":
            return Intervention(site=site, kind="zero")
        source = self.patch if kind == "patch" else self.mean
        if source is None or site not in source.rows:
            raise InterventionError(
                f"there is no donor for '{kind}'",
                where=site,
                cure="Give a donor model, benign recordings that hold this site, or a contrast recording",
            )
        return Intervention(site=site, kind=kind, donor=source.description)

    def replacement(
        self, tap: Tap, intervention: Intervention, sample: int, known: Tokens | None = None
    ) -> Replacement:
        """What the intervention writes for one sample of the incident.

        Args:
            known: generated tokens that follow the prompt in place of those of the scored run (`text` failures).

        Raises:
            InterventionError: the donor has nothing for this sample.
        """
        written = self.whole(tap, intervention, sample)
        return written if self.spoken is None else self.spoken.fitted(written, sample, known)

    def whole(self, tap: Tap, intervention: Intervention, sample: int) -> Replacement:
        """All that there is to write; of a text, for the prompt and what the donor generates."""
        if intervention.kind == "zero":
            return Replacement(torch.zeros(1, self.features[tap.name]), intervention.positions)
        if intervention.kind == "mean":
            assert self.mean is not None
            return Replacement(self.mean.rows[tap.name], intervention.positions)
        assert self.patch is not None
        rows = self.patch.rows[tap.name][sample]
        if rows is None:
            raise InterventionError(
                f"the donor has no activation for sample {sample}", where=tap.name, cure="Use a donor that covers it"
            )
        return Replacement(rows, intervention.positions)


def component_taps(model: Model, granularity: str, *, embedding: bool = False) -> tuple[Tap, ...]:
    """Sites that may be a cause, in execution order; norms at the end and block outputs are not.

    Args:
        embedding: with the embedding, which only a reference model can stand in for (`may_be_cause`).
    """
    taps = model.sites.components("head" if granularity == "head" else "component")
    named = dict(model.module.named_modules())
    kept = [t for t in taps if t.kind in CAUSE_KINDS and not isinstance(named.get(t.module), torch.nn.Embedding)]
    kept += [tap for tap in model.sites.taps if embedding and tap.kind == "embed"]
    return tuple(sorted(kept, key=lambda tap: (tap.order, tap.start or 0)))


def may_be_cause(tap: Tap, kind: InterventionKind, patch: PatchDonor | None) -> bool:
    """Whether a set may hold this intervention.

    The embedding carries the input. Only a reference model on the same input leaves that as it is: any other
    replacement makes another input of it.
    """
    if tap.kind == "embed":
        return kind == "patch" and patch is not None and patch.description.kind == "reference_model"
    return tap.kind in CAUSE_KINDS


def without_cuts(taps: Sequence[Tap], base: Run) -> tuple[Tap, ...]:
    """Drop what merely cuts through a model of unknown family, and what it does not compute.

    A module that holds other components is a cut like a block output, and so is one whose output is the logits.
    """
    taps = [tap for tap in taps if tap.name in base.activations]
    modules = {tap.module for tap in taps}
    return tuple(
        tap
        for tap in taps
        if tap.kind != "module"
        or not (any(m.startswith(f"{tap.module}.") for m in modules) or _is_logits(base.activations[tap.name], base))
    )


def _is_logits(rows: Sequence[torch.Tensor], base: Run) -> bool:
    return all(
        value.shape[1] == logits.size
        and any(np.array_equal(row, logits, equal_nan=True) for row in value.to(torch.float64).numpy())
        for value, logits in zip(rows, base.logits, strict=True)
    )


def build_pool(
    taps: Sequence[Tap],
    kinds: Sequence[InterventionKind],
    sources: Sources,
    base: Run,
    samples: Sequence[int],
    ranking: Sequence[str],
) -> tuple[list[Candidate], tuple[str, ...]]:
    """Every intervention that changes something, most suspicious site first, then in execution order.

    Args:
        samples: the incident samples that fail; exact no-ops (the replacement equals the base run bit for bit in all
            of them) are dropped.

    Returns:
        The pool, and warnings for the kinds that could not serve.

    Raises:
        InterventionError: the model has no component; no configured kind of intervention has a donor; a donor does not
            fit a site's shape.
    """
    if not taps:
        raise InterventionError(
            "the model has no component that may be a cause",
            cure="A module whose output is the model's own only cuts through it: give a model with inner modules",
        )
    rank = {site: position for position, site in enumerate(ranking)}
    ordered = sorted(taps, key=lambda tap: (rank.get(tap.name, len(rank)), tap.order))
    allowed = {kind: [tap for tap in ordered if may_be_cause(tap, kind, sources.patch)] for kind in kinds}
    serving = {
        kind: [tap for tap in sites if _serves(sources, kind, tap.name, samples)] for kind, sites in allowed.items()
    }
    if not any(serving.values()):
        raise InterventionError(
            f"no site has a donor for interventions of kind {', '.join(kinds)}",
            cure="Give a donor model or benign recordings of the same inputs, or allow 'zero' in intervention_types",
        )
    warnings = [
        f"'{kind}' interventions were left out at {len(sites) - len(serving[kind])} of {len(sites)} sites: no donor"
        for kind, sites in allowed.items()
        if len(serving[kind]) < len(sites)
    ]
    pool = []
    for tap in ordered:
        for kind in kinds:
            if tap not in serving[kind]:
                continue
            intervention = sources.intervention(tap.name, kind)
            bits, same = difference(tap, intervention, sources, base, samples)
            if not same:
                pool.append(Candidate(tap, intervention, bits))
    return pool, tuple(warnings)


def _serves(sources: Sources, kind: InterventionKind, site: str, samples: Sequence[int]) -> bool:
    if kind == "patch":
        return sources.patch is not None and sources.patch.serves(site, samples)
    return kind == "zero" or (sources.mean is not None and site in sources.mean.rows)


def difference(
    tap: Tap, intervention: Intervention, sources: Sources, base: Run, samples: Sequence[int]
) -> tuple[float, bool]:
    """Bits replaced per sample, and whether nothing at all changes."""
    total, same = 0.0, True
    for sample in samples:
        before = base.activations[tap.name][sample]
        written = sources.replacement(tap, intervention, sample)
        values = written.values
        if values.shape[1] != before.shape[1] or values.shape[0] not in (1, before.shape[0]):
            raise InterventionError(
                f"the donor's activation {list(values.shape)} does not fit {list(before.shape)}",
                where=tap.name,
                cure="Use a donor with the same number of tokens and features",
            )
        after = values.to(before.dtype).expand_as(before)
        if written.positions is not None:
            rows = list(written.positions)
            before, after = before[rows], after[rows]
        same = same and bool(torch.equal(before, after))
        total += replaced_bits(before, after)
    return total / len(samples), same


def replaced_bits(before: torch.Tensor, after: torch.Tensor) -> float:
    """Bits it takes to write `after` over `before`: Σ log2(1 + |after − before| / step).

    step = 2⁻⁸ of the root mean square of `after` (of `before` where `after` is zero throughout): the replacement is
    the healthy side, so damage of any size does not set the scale. Equal values cost 0 bits, and no value, nonfinite
    ones included, more than 32.
    """
    old, new = before.to(torch.float64), after.to(torch.float64)
    scale = _root_mean_square(new) or _root_mean_square(old) or 1.0
    difference = torch.where(torch.isfinite(old) & torch.isfinite(new), (new - old).abs(), torch.inf)
    difference[(old == new) | (old.isnan() & new.isnan())] = 0.0
    bits = torch.log2(1 + difference * (2.0**RESOLUTION_BITS / scale)).clamp(max=MAX_VALUE_BITS)
    return float(bits.sum())


def _root_mean_square(value: torch.Tensor) -> float:
    finite = value[torch.isfinite(value)]
    return float(finite.square().mean().sqrt()) if finite.numel() else 0.0
