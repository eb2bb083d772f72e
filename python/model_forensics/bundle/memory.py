"""A recording in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from model_forensics.errors import UnknownSite, UsageError
from model_forensics.failure import Failure
from model_forensics.types import BundleKind, ModelReference, Sample, SiteInfo, Sparse


@dataclass(frozen=True)
class MemoryRecording:
    """A `types.Recording` that holds everything in memory: tests, repaired runs.

    Attributes:
        samples: one per input.
        sites: in execution order.
        activations: per site, one entry per sample: [rows, features], `Sparse`, or None where not recorded.
            bfloat16 values come already widened to float32.
        calls: the inputs of each call, as passed.
        results: the outputs of each sample.
    """

    samples: Sequence[Sample]
    sites: Mapping[str, SiteInfo]
    activations: Mapping[str, Sequence[npt.NDArray[Any] | Sparse | None]]
    calls: Sequence[Mapping[str, npt.NDArray[Any]]] = ()
    results: Sequence[Mapping[str, npt.NDArray[Any]]] = ()
    kind: BundleKind = "incident"
    bundle_id: str = "memory"
    failure: Failure | None = None
    model: ModelReference | None = None
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    path: Path | None = None
    content_digest: None = None

    def __post_init__(self) -> None:
        if set(self.sites) != set(self.activations):
            raise UsageError("sites and activations name different sites", cure="Give both for every site")
        for name, values in self.activations.items():
            if len(values) != len(self.samples):
                raise UsageError(
                    f"{len(values)} activations for {len(self.samples)} samples",
                    where=name,
                    cure="Give one per sample, None where it was not recorded",
                )
            for value in values:
                features = self.sites[name].features
                if value is not None and (len(value.shape) != 2 or value.shape[1] != features):
                    raise UsageError(
                        f"an activation of shape {value.shape}", where=name, cure=f"Give [rows, {features}]"
                    )

    def activation(self, site: str, sample: int) -> npt.NDArray[Any] | Sparse:
        """[rows, features] of one sample.

        Raises:
            UnknownSite: the site was not recorded, or not for this sample.
        """
        value = self.activations[site][sample] if site in self.activations else None
        if value is None:
            raise UnknownSite(f"no activation of sample {sample}", where=site, cure="Choose one of the recorded sites")
        return value

    def has_activation(self, site: str, sample: int) -> bool:
        return site in self.activations and self.activations[site][sample] is not None

    def recorded_activations(self, sites: Sequence[str], sample: int) -> Mapping[str, npt.NDArray[Any] | Sparse]:
        return {site: self.activation(site, sample) for site in sites if self.has_activation(site, sample)}

    def inputs(self, call: int) -> Mapping[str, npt.NDArray[Any]]:
        return {name: np.asarray(value) for name, value in self.calls[call].items()} if self.calls else {}

    def outputs(self, sample: int) -> Mapping[str, npt.NDArray[Any]]:
        return {name: np.asarray(value) for name, value in self.results[sample].items()} if self.results else {}
