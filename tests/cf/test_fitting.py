"""Which samples are fitted, and what fitting them takes."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy import CONFIG, MODEL, MemoryRecording

from model_forensics.cf import fit_baseline
from model_forensics.cf.features.table import COLUMNS
from model_forensics.cf.fitting import SKETCHED_TOKENS, Chosen, choose_samples
from model_forensics.cf.innovation import MOST_SOURCES
from model_forensics.cf.sketch import SKETCH
from model_forensics.types import SiteInfo


def stated_bound(rows: int, features: int, sites: int, samples: int) -> int:
    """What `fitting` states, in bytes, for samples that are all alike."""
    values, channels = rows * features * sites, features * sites
    tokens = samples * min(max(rows - 1, 1), max(1, SKETCHED_TOKENS // samples))
    regressors = MOST_SOURCES * SKETCH
    return (
        256 * values + 1024 * channels + (1 << 20)
        + samples * sites * 8 * (4 * len(COLUMNS) + 6 * SKETCH)
        + sites * 4 * (MOST_SOURCES + 1) * SKETCH**2
        + tokens * (24 * SKETCH * sites + 32 * regressors)
        + 160 * regressors**2
    )  # fmt: skip


class Generated(MemoryRecording):
    """One sample, made anew whenever it is read: nothing but the reader keeps it."""

    def __init__(self, number: int, rows: int, features: int, sites: int) -> None:
        super().__init__(f"b{number}", [], [], MODEL)
        self.rows, self.seed = rows, number
        for site in range(sites):
            self.sites[f"L{site}.mlp"] = SiteInfo(
                name=f"L{site}.mlp", module="m", kind="mlp", layer=site, features=features, dtype="float32"
            )
        self.arrays = [{name: np.zeros((1, 1)) for name in self.sites}]
        self.groups = [f"g{number}"]

    def activation(self, site: str, sample: int) -> np.ndarray:
        rng = np.random.default_rng([self.seed, self.sites[site].layer or 0])
        return rng.normal(size=(self.rows, self.sites[site].features)).astype(np.float32)


@pytest.mark.parametrize(
    ("rows", "features", "sites"),
    [(60, 256, 4), (2, 4096, 4), (2, 16, 40), (60, 16, 30)],
    ids=["long recordings", "wide sites", "many sites", "many long sites"],
)
def test_memory_stays_below_the_stated_bound(rows: int, features: int, sites: int) -> None:
    everything = CONFIG.model_copy(update={"baseline_samples": 1000})
    fit_baseline([Generated(number, 2, 4, 2) for number in range(3)], everything)  # imports, cost tables
    for samples in (10, 40):
        recordings = [Generated(number, rows, features, sites) for number in range(samples)]
        tracemalloc.start()
        try:
            fit_baseline(recordings, everything)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < stated_bound(rows, features, sites, samples)


def recordings_of(groups: Sequence[Sequence[str]]) -> list[MemoryRecording]:
    """One recording for each sequence of its samples' groups."""
    nothing = np.zeros((1, 1), dtype=np.float32)
    return [
        MemoryRecording(f"b{number}", [{"embed": nothing}] * len(names), list(names))
        for number, names in enumerate(groups)
    ]


def names(chosen: Sequence[Chosen]) -> list[tuple[str, str]]:
    return [(item.recording.bundle_id, item.recording.samples[item.sample].sample_id) for item in chosen]


def keep(recordings: Sequence[MemoryRecording], kept: set[tuple[str, str]]) -> list[Any]:
    """The recordings with only these samples."""
    return [
        SimpleNamespace(
            bundle_id=recording.bundle_id,
            samples=[sample for sample in recording.samples if (recording.bundle_id, sample.sample_id) in kept],
        )
        for recording in recordings
    ]


GROUPS = st.lists(st.lists(st.sampled_from("abcde"), max_size=8), min_size=1, max_size=6)


@given(groups=GROUPS, limit=st.integers(1, 20), order=st.randoms())
def test_the_choice_does_not_depend_on_the_order_of_recordings(groups, limit, order) -> None:
    recordings = recordings_of(groups)
    shuffled = list(recordings)
    order.shuffle(shuffled)
    assert names(choose_samples(shuffled, limit)) == names(choose_samples(recordings, limit))


@given(groups=GROUPS, limit=st.integers(1, 20))
def test_the_choice_is_balanced(groups, limit) -> None:
    chosen = choose_samples(recordings_of(groups), limit)
    available = [name for recording in groups for name in recording]
    assert len(chosen) == min(limit, len(available))
    taken = {name: sum(item.group == name for item in chosen) for name in set(available)}
    for name, count in taken.items():
        if count < available.count(name):  # it could have had more, so nobody else has
            assert max(taken.values()) <= count + 1


@given(groups=GROUPS, limit=st.integers(1, 20), cut=st.integers(0, 6))
def test_choosing_from_the_choices_of_two_parts_is_choosing_from_all(groups, limit, cut) -> None:
    """What a cap leaves out of a part, the same cap leaves out of the whole."""
    recordings = recordings_of(groups)
    whole = names(choose_samples(recordings, limit))
    kept = {*names(choose_samples(recordings[:cut], limit)), *names(choose_samples(recordings[cut:], limit))}
    assert names(choose_samples(keep(recordings, kept), limit)) == whole
