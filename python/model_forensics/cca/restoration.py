"""Whether a set restores the computation: the donor's output, and the anomalies outside the patch explained away."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch

from model_forensics.cca.calls import Calls
from model_forensics.cca.edits import batch_edits
from model_forensics.cca.executor import SetOutcome
from model_forensics.cca.jobs import Edits, Job, Replacement
from model_forensics.cca.pool import Sources
from model_forensics.models import Model, Tap, hooks
from model_forensics.models import rows as model_rows
from model_forensics.types import Intervention, Recording

RECOVERY = 0.9
RESIDUAL = 0.1
MARGIN = 0.3
"""Of what may be missing: how much may be with a margin, on the samples of a search, so that others restore too."""
EXPLAINED = 0.8
MINIMUM_ANOMALIES = 3
"""With fewer anomalous sites outside the patch, their share says nothing."""

Anomaly = tuple[int, str]
"""A sample (its place in the recording) and a site that departs from the baseline in that sample's run."""

Rescore = Callable[[Mapping[str, list[npt.NDArray[np.floating]]]], frozenset[Anomaly]]


def output_restored(outcome: SetOutcome, *, margin: bool = False) -> bool:
    """Median recovery at least 0.9 and median residual distance to the donor's output at most a tenth.

    With a margin, 0.97 and 0.03.

    Recovery looks at the failure's score alone, which a late component can copy from the donor; the residual looks at
    the whole output distribution, which it cannot.
    """
    recovery, residual = outcome.recovery, outcome.residual
    part = MARGIN if margin else 1.0
    return (
        recovery is not None
        and residual is not None
        and recovery >= 1 - part * (1 - RECOVERY)
        and residual <= part * RESIDUAL
    )


def distribution_restored(outcome: SetOutcome, *, margin: bool = False) -> bool:
    """The residual alone: the output is the donor's, though the failure's score, which is of logits, may fall short.

    That is what one sees where one of several faults is repaired. It is enough for a set in which a fault is known to
    begin, and for saying that one lies upstream.
    """
    return outcome.residual is not None and outcome.residual <= (MARGIN if margin else 1.0) * RESIDUAL


class Explained:
    """Share of the anomalies outside a patch that are gone in the repaired run.

    Anomalies are counted sample by sample: over a whole incident even the inputs depart from the baseline, since they
    were selected for failing, and no repair of the model could explain that away. For the same reason those do not
    count that remain with every component repaired, where a donor ran on the same input: they are the inputs' own.
    """

    def __init__(
        self, model: Model, calls: Calls, sources: Sources, rescore: Rescore | None, taps: Sequence[Tap] = ()
    ) -> None:
        """
        Args:
            taps: all components that a donor may stand in for.
        """
        self._model = model
        self._calls = calls
        self._sources = sources
        self._rescore = rescore
        self._taps = taps
        self._known: dict[tuple[tuple[Tap, Intervention], ...], float | None] = {}
        self._before: frozenset[Anomaly] | None = None
        self.rows_run = 0

    def share(self, members: Sequence[tuple[Tap, Intervention]]) -> float | None:
        """None without forensics, or with fewer than 3 anomalous sites outside the patch."""
        if self._rescore is None:
            return None
        if self._before is None:
            self._before = self._rescore(self._activations(())) - self._inputs_own()
        patched = {tap.name for tap, _ in members}
        outside = {anomaly for anomaly in self._before if anomaly[1] not in patched}
        if len({site for _, site in outside}) < MINIMUM_ANOMALIES:
            return None
        key = tuple(members)
        if key not in self._known:
            after = self._rescore(self._activations(members))
            self._known[key] = len(outside - after) / len(outside)
        return self._known[key]

    def _inputs_own(self) -> frozenset[Anomaly]:
        """Anomalies of the healthy run on the same inputs."""
        patch = self._sources.patch
        if self._rescore is None or patch is None or not patch.description.same_input:
            return frozenset()
        known = [tap for tap in self._taps if tap.name in patch.rows]
        return self._rescore(self._activations([(tap, self._sources.intervention(tap.name, "patch")) for tap in known]))

    def _activations(self, members: Sequence[tuple[Tap, Intervention]]) -> dict[str, list[npt.NDArray[np.floating]]]:
        """The recorded sites of all samples of the incident, in its order, under these interventions.

        Samples that the donor does not cover run without them.
        """
        recording = self._calls.recording
        taps = [self._model.sites.get(name) for name in recording.sites]
        result: dict[str, dict[int, npt.NDArray[np.floating]]] = {tap.name: {} for tap in taps}
        for call_index, samples in samples_by_call(recording).items():
            call = self._calls[call_index]
            values: dict[str, torch.Tensor] = {}

            def keep(tap: Tap, value: torch.Tensor, values: dict[str, torch.Tensor] = values) -> None:
                values[tap.name] = value.detach().clone()  # live: later operations may change it in place

            jobs = [
                (recording.samples[i].row, Job(call_index, recording.samples[i].row, self._edits(members, i)))
                for i in samples
            ]
            edits = batch_edits(jobs, call.mask)
            self.rows_run += call.size
            with torch.no_grad(), hooks.edit(self._model.module, edits), hooks.read(self._model.module, taps, keep):
                self._model.forward(call.inputs)
            for index in samples:
                row = recording.samples[index].row
                for name, value in values.items():
                    own = model_rows.to_rows(value, call.mask, row).cpu()
                    result[name][index] = (own.float() if own.dtype == torch.bfloat16 else own).numpy()
        return {name: [found[i] for i in sorted(found)] for name, found in result.items() if found}

    def _edits(self, members: Sequence[tuple[Tap, Intervention]], sample: int) -> Edits:
        edits: dict[Tap, Replacement] = {}
        for tap, intervention in members:
            covered = intervention.kind != "patch" or (
                self._sources.patch is not None and self._sources.patch.serves(tap.name, [sample])
            )
            if covered:
                edits[tap] = self._sources.replacement(tap, intervention, sample)
        return edits


def samples_by_call(recording: Recording) -> dict[int, list[int]]:
    """Sample indices per call, in the order of the recording."""
    members: dict[int, list[int]] = {}
    for index, sample in enumerate(recording.samples):
        members.setdefault(sample.call, []).append(index)
    return members
