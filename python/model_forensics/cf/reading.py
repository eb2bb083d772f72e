"""Everything that is measured on a recording before it is judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from model_forensics.cf.features.table import Measured
from model_forensics.cf.integrity import IntegrityCounts
from model_forensics.cf.planes import Entries, Floats, Layout, read_entries
from model_forensics.cf.windows import SampleDetail, token_profiles

if TYPE_CHECKING:
    from model_forensics.types import Recording


@dataclass(frozen=True)
class Reading:
    """Everything measured on a recording before it is judged."""

    layout: Layout
    integrity: IntegrityCounts
    details: tuple[SampleDetail, ...]
    profiles: Sequence[tuple[float | None, ...]]
    sketches: Floats | None  # [samples, sites, sketch]; None without a baseline

    @property
    def tables(self) -> Floats:
        return np.stack([detail.measured.table for detail in self.details])

    @property
    def tokens(self) -> np.ndarray:
        return np.stack([detail.tokens for detail in self.details])


def read(
    recording: Recording,
    layout: Layout,
    measure_one: Callable[..., Measured],
    progress: Callable[[int, int], None] | None,
    *,
    windows: bool = True,
    sketch_one: Callable[[Entries], Floats] | None = None,
) -> Reading:
    """Read and measure all samples.

    Args:
        layout: sites that are read.
        measure_one: measures the entries of a sample.
        progress: called with (samples done, samples).
        windows: whether token profiles of the first sample are made.
        sketch_one: [sites, sketch] of the entries of a sample.

    Raises:
        BaselineError: a site has another number of features than the layout says.
    """
    dense = np.array(
        [recording.sites[i.name].layout == "dense" if i.name in recording.sites else False for i in layout.sites]
    )
    integrity = IntegrityCounts.empty(layout, dense)
    details: list[SampleDetail] = []
    profiles: Sequence[tuple[float | None, ...]] = [()] * len(layout)
    sketches: list[Floats] = []
    total = len(recording.samples)
    for sample in range(total):
        entries = read_entries(recording, sample, layout)
        integrity.add(entries, sample, layout)
        measured = measure_one(entries)
        if sample == 0 and windows:
            profiles = token_profiles(measured, entries)
        details.append(SampleDetail(measured if sample == 0 else measured.without_entries(), entries.rows))
        if sketch_one is not None:
            sketches.append(sketch_one(entries))
        if progress is not None:
            progress(sample + 1, total)
    return Reading(layout, integrity, tuple(details), profiles, np.stack(sketches) if sketches else None)
