"""The speed of forensics: it reports nothing that is not right, and everything that it promises."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import cf_speed
from bench.qwen_recordings import read_recording
from model_forensics import ops
from model_forensics.files import write_safetensors

MODULES = {"model.embed_tokens": 64, "model.layers.0.mlp.up_proj": 96, "model.norm": 64}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Six recordings as those of shared/data, of three sites."""
    random = np.random.default_rng(0)
    shapes = json.dumps({name: [1, 1, width] for name, width in MODULES.items()})
    for number in range(6):
        tensors: dict[str, Any] = {}
        for name, width in MODULES.items():
            kept = np.sort(random.choice(width, width // 2, replace=False))
            values = random.standard_normal(kept.size).astype(np.float32)
            tensors[f"{name}/values"] = (values.view(np.uint32) >> 16).astype(np.uint16)
            tensors[f"{name}/indices"] = kept.astype(np.uint16)
        write_safetensors(tmp_path / f"prompt0{number}-00.safetensors", tensors, metadata={"shapes": shapes})
    return tmp_path


def test_every_number_is_measured(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ops, "set_threads", lambda _: None)  # of the whole process
    output = tmp_path / "out.json"
    sizes = ["--copies", "1", "--repeats", "1", "--compressed", "2"]
    assert cf_speed.main([str(directory), *sizes, "--output", str(output)]) == 0
    told = json.loads(output.read_text())
    assert told["correct"]
    assert (told["sites"], told["recordings"]) == (3, 6)
    assert all(value > 0 for value in told["measured"].values())
    assert len(capsys.readouterr().out.splitlines()) == 2 + len(told["measured"])


def test_nothing_is_reported_of_a_core_that_is_wrong(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ops, "set_threads", lambda _: None)
    monkeypatch.setattr(cf_speed, "same_as_reference", lambda *_: False)
    monkeypatch.setattr(cf_speed, "rank", lambda *_: cf_speed.Ranked(1.0, 1.0, []))
    output = tmp_path / "out.json"
    assert cf_speed.main([str(directory), "--copies", "1", "--output", str(output)]) == 1
    assert json.loads(output.read_text())["measured"] is None
    assert capsys.readouterr().out == ""


def test_the_naive_way_sees_every_site(directory: Path, tmp_path: Path) -> None:
    recording = read_recording(next(directory.glob("*.safetensors")), None)
    bundle = cf_speed.load_bundle(cf_speed.write(recording, tmp_path / "incidents" / "one"))
    found = cf_speed.naive(bundle)
    assert set(found) == set(MODULES)
    assert all(bits > entropy > 0 for bits, entropy in found.values())
    for name in MODULES:
        np.testing.assert_array_equal(bundle.activation(name, 0).values, recording.activation(name, 0).values)  # type: ignore[union-attr]
