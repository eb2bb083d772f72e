"""What a fix set writes, as data that leaves the search: for hooks and weights that are exported."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from model_forensics.cca.choice import Healthy
from model_forensics.cca.continuations import Request
from model_forensics.cca.given import GivenValues
from model_forensics.cca.jobs import Job, Replacement, own_tolerance
from model_forensics.cca.plain import PlainRuns
from model_forensics.cca.prepare import Prepared, prepare
from model_forensics.cca.replay import Case, predicate
from model_forensics.cca.sequences import Tokens
from model_forensics.config import CausalConfig
from model_forensics.errors import InterventionError
from model_forensics.models import Model, Tap
from model_forensics.types import FixedRun, FixedRuns, FixSet, Intervention, Recording, Told, WrittenSite


def fixed_runs(
    model: Model,
    incident: Recording,
    fix_set: FixSet,
    *,
    benign: Sequence[Recording] = (),
    donor_model: Model | None = None,
    contrast: Recording | None = None,
    donor_values: GivenValues | None = None,
    config: CausalConfig,
) -> FixedRuns:
    """Every failing sample of the incident run by itself, with the set applied by plain hooks.

    The donor is looked for as in `validate_fix`, which says whether it is the one that the set was measured with.

    Raises:
        InterventionError: a donor that the set names is not available, or an intervention acts at some tokens only.
        Others as `find_fix_set`.
    """
    for one in fix_set.interventions:
        if one.positions is not None:
            raise InterventionError(
                "the intervention acts at single positions, which other inputs need not have",
                where=one.site,
                cure="Export a set that acts at all positions, as those of an analysis do",
            )
    sites = [one.site for one in fix_set.interventions]
    healthy = Healthy(benign, donor_model, contrast, donor_values)
    prepared = prepare(model, incident, config=config, healthy=healthy, extra_sites=sites)
    position = predicate(incident).position
    runs = _runs(prepared, fix_set.interventions, PlainRuns(model, prepared.calls, position))
    decoder = prepared.decoder
    return FixedRuns(
        fix_set=fix_set,
        bundle_id=incident.bundle_id,
        sites=tuple(_written(prepared, one) for one in fix_set.interventions),
        runs=runs,
        position=position,
        tolerance=own_tolerance(model.dtype),
        longest=0 if decoder is None else decoder.limit,
        ends=() if decoder is None else tuple(decoder.ends),
    )


def _runs(prepared: Prepared, interventions: Sequence[Intervention], plain: PlainRuns) -> tuple[FixedRun, ...]:
    found = []
    for case in prepared.cases:
        sample = prepared.calls.recording.samples[case.sample]
        edits = _edits(prepared, interventions, case.sample)
        inputs = prepared.calls[sample.call].take([sample.row]).inputs
        found.append(
            FixedRun(
                sample_id=sample.sample_id,
                inputs={name: _array(value) for name, value in inputs.items()},
                failed=plain.run(Job(sample.call, sample.row, {})),
                fixed=plain.run(Job(sample.call, sample.row, edits)),
                told=_told(prepared, interventions, case),
            )
        )
    return tuple(found)


def _edits(
    prepared: Prepared, interventions: Sequence[Intervention], sample: int, known: Tokens | None = None
) -> dict[Tap, Replacement]:
    taps = {tap.name: tap for tap in prepared.taps}
    chosen = [(taps[one.site], one) for one in interventions]
    return {tap: prepared.sources.replacement(tap, one, sample, known) for tap, one in chosen}


def _told(prepared: Prepared, interventions: Sequence[Intervention], case: Case) -> Told | None:
    decoder, spoken = prepared.decoder, prepared.sources.spoken
    if decoder is None or spoken is None or case.text is None:
        return None
    fixed = decoder.run_plain(Request(case.sample, lambda known: _edits(prepared, interventions, case.sample, known)))
    return Told(decoder.prompts[case.sample], case.text.failed, fixed.tokens, spoken.donor[case.sample])


def _written(prepared: Prepared, one: Intervention) -> WrittenSite:
    tap = next(tap for tap in prepared.taps if tap.name == one.site)
    sources = prepared.sources
    constant: npt.NDArray[np.generic] | None = None
    rows: tuple[npt.NDArray[np.generic], ...] | None = None
    if one.kind == "zero":
        constant = np.zeros(sources.features[tap.name], np.float32)
    elif one.kind == "mean":
        constant = _array(sources.replacement(tap, one, 0).values)[0]
    else:
        assert sources.patch is not None, "a patch has run, so it has a donor"
        anywhere = sources.patch.anywhere.get(tap.name)
        constant = None if anywhere is None else _array(anywhere)[0]
        if constant is None:
            written = [sources.whole(tap, one, case.sample).values for case in prepared.cases]
            rows = tuple(_array(values) for values in written)
    return WrittenSite(one, tap.module, tap.side, tap.start, tap.stop, constant, rows)


def _array(value: torch.Tensor) -> npt.NDArray[np.generic]:
    value = value.detach().cpu()
    return np.asarray((value.float() if value.dtype == torch.bfloat16 else value).numpy())
