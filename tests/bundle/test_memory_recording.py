"""The recording in memory keeps the promises of `Recording`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from model_forensics.bundle import MemoryRecording, load_bundle
from model_forensics.errors import UnknownSite, UsageError
from model_forensics.types import Recording, Sample, SiteInfo

SITE = SiteInfo(name="x", module="m", kind="module", layer=None, features=2, dtype="float32")
SAMPLES = [Sample(sample_id=str(n), group=str(n), call=0, row=n, tokens=1) for n in range(2)]


def build(**changes: Any) -> MemoryRecording:
    arguments: dict[str, Any] = {
        "samples": SAMPLES, "sites": {"x": SITE}, "activations": {"x": [np.ones((1, 2), np.float32), None]},
    }  # fmt: skip
    return MemoryRecording(**(arguments | changes))


def test_reads_what_was_given() -> None:
    recording: Recording = build()
    assert recording.has_activation("x", 0)
    assert not recording.has_activation("x", 1)
    assert not recording.has_activation("y", 0)
    np.testing.assert_array_equal(np.asarray(recording.activation("x", 0)), np.ones((1, 2)))
    assert list(recording.recorded_activations(["x", "y"], 0)) == ["x"]
    assert list(recording.recorded_activations(["x", "y"], 1)) == []
    assert recording.inputs(0) == {}
    assert recording.outputs(1) == {}
    for site, sample in (("x", 1), ("y", 0)):
        with pytest.raises(UnknownSite):
            recording.activation(site, sample)


def test_both_recordings_satisfy_the_protocol(golden: Any) -> None:
    recordings: list[Recording] = [build(), load_bundle(golden)]
    assert all(recording.created_at.tzinfo is not None for recording in recordings)


@pytest.mark.parametrize(
    "changes",
    [{"sites": {}}, {"activations": {"x": []}}, {"activations": {"x": [np.ones((1, 3)), None]}}],
)
def test_contradictions_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        build(**changes)
