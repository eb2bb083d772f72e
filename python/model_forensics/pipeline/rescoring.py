"""Forensics of repaired runs, as a callable for the search: the stages do not know each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from model_forensics import cf
from model_forensics.bundle import MemoryRecording

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from model_forensics.cf import Baseline
    from model_forensics.config import ForensicsConfig
    from model_forensics.types import Recording

Rescore = Callable[["Mapping[str, list[npt.NDArray[np.floating]]]"], frozenset[tuple[int, str]]]
"""From activations by site, one array a sample, to the (sample, site) that are anomalous."""


def rescorer(recording: Recording, baseline: Baseline | None, config: ForensicsConfig) -> Rescore | None:
    """Which sites of which repaired run are anomalous? None where nothing judges them."""
    if baseline is None or not config.enabled:
        return None
    if "arithmetic" in config.compression_methods:  # zlib and gzip would cost most of the time and see the least
        config = config.model_copy(update={"compression_methods": ("arithmetic",)})

    def rescore(activations: Mapping[str, list[npt.NDArray[np.floating]]]) -> frozenset[tuple[int, str]]:
        anomalies: set[tuple[int, str]] = set()
        for index in range(len(recording.samples)):
            run = {site: rows[index] for site, rows in activations.items()}
            metrics = cf.analyze(_as_recording(recording, index, run), baseline, config).metrics
            anomalies |= {(index, metric.site) for metric in metrics if metric.is_anomalous}
        return frozenset(anomalies)

    return rescore


def _as_recording(original: Recording, index: int, run: Mapping[str, npt.NDArray[np.floating]]) -> MemoryRecording:
    """One sample's repaired run, seen as a recording of the same sites."""
    sites = {name: info for name, info in original.sites.items() if name in run}
    # A repaired run of a generation may be shorter or longer than the recorded one.
    tokens = max((len(run[name]) for name in sites), default=original.samples[index].tokens)
    return MemoryRecording(
        samples=[original.samples[index].model_copy(update={"call": 0, "row": 0, "tokens": tokens})],
        sites=sites,
        activations={name: [run[name]] for name in sites},
        kind="incident",
        model=original.model,
        failure=original.failure,
    )
