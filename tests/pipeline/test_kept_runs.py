"""Healthy base runs come from the cache where they are there, bit for bit; the incident is replayed each time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from model_forensics import RCAPipeline
from model_forensics.bundle import load_bundle, load_bundles
from model_forensics.cca import donors, grounds, recall
from model_forensics.cca.calls import Calls
from model_forensics.cca.pool import component_taps
from model_forensics.config import Config
from model_forensics.demo import data_directory
from model_forensics.models import Model, load_model
from model_forensics.pipeline import caching

TIMES = {"execution_time", "export_path"}


@pytest.fixture(scope="module")
def data() -> Iterator[Path]:
    pytest.importorskip("transformers")
    with data_directory() as directory:
        yield directory


@pytest.fixture
def settings(tmp_path) -> dict:
    cache = {"enabled": True, "directory": str(tmp_path / "cache")}
    return {"output_dir": str(tmp_path / "out"), "cache": cache, "device": "cpu"}


@pytest.fixture
def kept(settings) -> caching.Kept:
    return caching.Kept(Config.from_dict(settings).cache)


@pytest.fixture
def made(monkeypatch) -> list[str]:
    """The whole runs that were made: of healthy models or inputs, and of the incident."""
    runs: list[str] = []
    for module, name in ((recall, "healthy"), (grounds, "incident")):
        original = module.run_recording

        def counted(*arguments, name=name, original=original):
            runs.append(name)
            return original(*arguments)

        monkeypatch.setattr(module, "run_recording", counted)
    return runs


@pytest.fixture
def unrecorded(monkeypatch) -> None:
    """Benign recordings without the sites, so that means are computed with the model."""
    monkeypatch.setattr(donors, "recorded_rows", lambda *_: None)


def damaged_model(data: Path) -> Model:
    return load_model(data / "model", device="cpu")


def taps_of(model: Model):
    return component_taps(model, "component", embedding=True)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_a_reference_model_is_run_once_and_the_incident_each_time(data, settings, made):
    def analyzed(**changes) -> dict:
        pipeline = RCAPipeline({**settings, **changes})
        result = pipeline.analyze_incident(data / "incident", donor_model=data / "reference")
        return {name: value for name, value in json.loads(result.model_dump_json()).items() if name not in TIMES}

    without = analyzed(cache={"enabled": False})
    assert without["fix_set"] is not None
    assert made == ["incident", "healthy"]
    first, second = analyzed(), analyzed()
    assert made == ["incident", "healthy"] * 2 + ["incident"]
    for one in (without, first, second):
        del one["environment"]  # holds the cache's settings
    assert without == first == second


def test_a_run_from_the_cache_is_the_run_in_every_bit(data, kept, made):
    model = load_model(data / "reference", device="cpu")
    calls = Calls(load_bundle(data / "incident"), "cpu")
    first, second = (recall.healthy_run(kept.run, model, calls, taps_of(model), -1) for _ in range(2))
    assert made == ["healthy"]
    assert list(first.activations) == list(second.activations)
    for name, rows in first.activations.items():
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(rows, second.activations[name], strict=True))
    assert all((ours == theirs).all() for ours, theirs in zip(first.logits, second.logits, strict=True))
    assert second.logits[0].dtype == first.logits[0].dtype


def test_means_over_benign_runs_are_computed_once(data, kept, made, unrecorded):
    benign = load_bundles(data / "benign")
    model = damaged_model(data)
    found = [donors.mean_donor(damaged_model(data), benign, taps_of(model), kept.run) for _ in range(2)]
    assert made == ["healthy"]
    expected = donors.mean_donor(model, benign, taps_of(model), recall.anew)
    assert same(found[0].rows, expected.rows)
    assert same(found[1].rows, expected.rows)


def test_other_inputs_sites_and_weights_are_other_runs(data, kept, made, unrecorded):
    model, reference = (load_model(data / name, device="cpu") for name in ("model", "reference"))
    benign, incident = load_bundles(data / "benign"), load_bundle(data / "incident")
    taps = taps_of(model)

    def runs(one: Model, recordings, sites) -> int:
        made.clear()
        donors.mean_donor(one, recordings, sites, kept.run)
        return len(made)

    assert runs(model, benign, taps) == 1
    assert runs(model, benign, taps) == 0
    assert runs(reference, benign, taps) == 1
    assert runs(model, [incident], taps) == 1
    assert runs(model, benign, taps[:3]) == 1


def test_only_whole_calls_at_the_same_place_are_the_same_inputs(data):
    incident = load_bundle(data / "incident")

    class Fewer:
        samples = incident.samples[:-1]
        inputs = staticmethod(incident.inputs)

    assert recall.inputs_digest(Fewer()) != recall.inputs_digest(incident)


def test_a_module_of_the_operator_is_run_each_time(data, kept, made, unrecorded):
    model = Model.wrap(load_model(data / "model", device="cpu").module)
    for _ in range(2):
        donors.mean_donor(model, load_bundles(data / "benign"), taps_of(model), kept.run)
    assert made == ["healthy"] * 2


def test_a_run_too_large_to_be_kept_is_made_each_time(data, kept, made, unrecorded, monkeypatch):
    monkeypatch.setattr(caching, "MOST_RUN_BYTES", 100)
    model = damaged_model(data)
    for _ in range(2):
        donors.mean_donor(model, load_bundles(data / "benign"), taps_of(model), kept.run)
    assert made == ["healthy"] * 2


def test_a_damaged_entry_is_a_run_that_is_made_again(data, kept, made, unrecorded, tmp_path):
    model = damaged_model(data)
    first = donors.mean_donor(model, load_bundles(data / "benign"), taps_of(model), kept.run)
    for path in (tmp_path / "cache" / "entries").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:-1] + b"~")
    again = donors.mean_donor(model, load_bundles(data / "benign"), taps_of(model), kept.run)
    assert made == ["healthy"] * 2
    assert same(first.rows, again.rows)
