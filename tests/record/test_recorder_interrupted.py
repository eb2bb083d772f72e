"""Ctrl-C at every moment of a recording: the bundle is there, whole, or what was before, and nothing beside it."""

from __future__ import annotations

import shutil
from functools import partial

import pytest
import torch

from model_forensics import Recorder, load_bundle
from tests.interrupts import each_moment, interrupted


@pytest.mark.parametrize("codec", ["none", "arithmetic"])
@pytest.mark.parametrize("earlier", [False, True])
def test_a_recording_is_whole_or_not_there(codec, earlier, tmp_path):
    torch.manual_seed(0)
    recorder = Recorder(torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 3)), sites="all", codec=codec)
    place = tmp_path / "place"

    def record(value: float, samples: int) -> None:
        with recorder.benign(place / "b", overwrite=earlier) as recording:
            for _ in range(samples):
                recording.run(input=torch.full((1, 4), value))

    record(1.0, 1)
    before = load_bundle(place / "b").content_digest
    shutil.copytree(place, tmp_path / "before")
    new = []

    def prepare(_: int):
        shutil.rmtree(place)
        if earlier:
            shutil.copytree(tmp_path / "before", place)
        else:
            place.mkdir()
        return partial(interrupted, partial(record, 2.0, 2))

    def check(_: int) -> None:
        found = [path.name for path in place.iterdir()]
        assert found in (["b"], [])
        bundle = load_bundle(place / "b") if found else None
        new.append(bundle is not None and len(bundle.samples) == 2)
        if not new[-1]:
            assert (before if earlier else None) == (bundle and bundle.content_digest)

    assert each_moment(prepare, check) >= 15
    assert True in new
    assert False in new
