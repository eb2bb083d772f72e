"""Baselines from paths: combined, extended, moved; and sources that are missing, altered or in the way."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from model_forensics import Baseline, BundleWriter, RCAPipeline
from model_forensics.errors import BaselineError, UsageError

WIDTH = 6


def write(path: Path, seed: int, **arguments: str) -> Path:
    rng = np.random.default_rng(seed)
    with BundleWriter(path, kind=arguments.get("kind", "benign"), failure=None) as writer:
        for sample in range(2):
            activations = {name: rng.normal(size=(3 + seed % 4, WIDTH)).astype(np.float32) for name in ("a", "b")}
            writer.add_sample(activations=activations, group=f"g{seed}-{sample}")
    return path


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """`first` and `second`, directories of three bundles each."""
    for number in range(6):
        write(tmp_path / ("first" if number < 3 else "second") / f"b{number}", number)
    return tmp_path


@pytest.fixture
def pipeline() -> RCAPipeline:
    return RCAPipeline({"modules": {"cf": {"compression_methods": ["arithmetic"], "entropy_window": 16}}})


@pytest.fixture
def at_once(home: Path, pipeline: RCAPipeline) -> str:
    return pipeline.build_baseline([home / "first", home / "second"], home / "at-once").baseline_id


def test_baselines_are_combined_and_extended(home: Path, pipeline: RCAPipeline, at_once: str) -> None:
    one = pipeline.build_baseline(home / "first", home / "one")
    pipeline.build_baseline(home / "second", home / "two")
    assert one.groups == 6
    assert pipeline.build_baseline([home / "two", home / "one"], home / "both").baseline_id == at_once
    assert pipeline.build_baseline([home / "one", home / "second"], home / "more").baseline_id == at_once
    pipeline.build_baseline([home / "one", home / "second" / "b4"], home / "one", overwrite=True)
    grown = pipeline.build_baseline([home / "one", home / "second"], home / "one", overwrite=True)
    assert grown.baseline_id == Baseline.load(home / "one").baseline_id == at_once


def test_a_folder_that_was_moved_as_a_whole(home: Path, pipeline: RCAPipeline, at_once: str) -> None:
    pipeline.build_baseline(home / "first", home / "one")
    shutil.move(home, home.with_name("moved"))
    moved = home.with_name("moved")
    combined = pipeline.build_baseline([moved / "one", moved / "second"], moved / "both")
    assert combined.baseline_id == at_once


def test_a_baseline_that_was_moved_alone(home: Path, pipeline: RCAPipeline, at_once: str) -> None:
    pipeline.build_baseline(home / "first", home / "one")
    (home / "far" / "away").mkdir(parents=True)
    shutil.move(home / "one", home / "far" / "away" / "one")
    combined = pipeline.build_baseline([home / "far" / "away" / "one", home / "second"], home / "both")
    assert combined.baseline_id == at_once


def test_bundles_that_were_moved_are_found_when_given(home: Path, pipeline: RCAPipeline, at_once: str) -> None:
    pipeline.build_baseline(home / "first", home / "one")
    shutil.move(home / "first", home / "elsewhere")
    with pytest.raises(BaselineError, match=r"'b0'.* holds nothing.*along with the baseline"):
        pipeline.build_baseline([home / "one", home / "second"], home / "both")
    assert not (home / "both").exists()
    combined = pipeline.build_baseline([home / "one", home / "second", home / "elsewhere"], home / "both")
    assert combined.baseline_id == at_once


@pytest.mark.parametrize("file", ["manifest.json", "samples.jsonl", "activations/000.safetensors"])
def test_an_altered_source_is_refused(home: Path, pipeline: RCAPipeline, file: str) -> None:
    pipeline.build_baseline(home / "first", home / "one")
    path = home / "first" / "b1" / file
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"kind": "benign"', b'"kind":  "benign"')[:-2] + b"\n ")
    with pytest.raises(BaselineError, match=r"bundle 'b1'.* not found unaltered"):
        pipeline.build_baseline([home / "one", home / "second"], home / "both")


def test_another_bundle_in_its_place_is_refused(home: Path, pipeline: RCAPipeline) -> None:
    pipeline.build_baseline(home / "first", home / "one")
    shutil.rmtree(home / "first" / "b1")
    write(home / "first" / "b1", 77)
    with pytest.raises(BaselineError, match=r"bundle 'b1'.*another bundle"):
        pipeline.build_baseline([home / "one", home / "second"], home / "both")
    with pytest.raises(BaselineError, match="not the one"):
        pipeline.build_baseline([home / "one", home / "first"], home / "both")


def test_a_baseline_of_another_format_is_refused_with_the_cure(home: Path, pipeline: RCAPipeline) -> None:
    pipeline.build_baseline(home / "first", home / "one")
    manifest = home / "one" / "baseline.json"
    manifest.write_text(manifest.read_text().replace('"format_version": "2.1"', '"format_version": "1.0"'))
    with pytest.raises(BaselineError, match=r"'1.0', this release reads 2.1.*build-baseline"):
        pipeline.build_baseline([home / "one", home / "second"], home / "both")


def test_a_place_that_was_altered_is_noticed(home: Path, pipeline: RCAPipeline) -> None:
    pipeline.build_baseline(home / "first", home / "one")
    manifest = home / "one" / "baseline.json"
    manifest.write_text(manifest.read_text().replace("first/b1", "first/b2"))
    with pytest.raises(BaselineError, match="checksum"):
        Baseline.load(home / "one")


def test_nothing_that_is_fitted_is_replaced(home: Path, pipeline: RCAPipeline) -> None:
    pipeline.build_baseline(home / "first", home / "keep" / "one")
    content = sorted(path for path in home.rglob("*"))
    for output in ("first", "first/b0", "first/b0/baseline", "keep", "."):
        with pytest.raises(UsageError):
            pipeline.build_baseline([home / "keep" / "one", home / "second"], home / output, overwrite=True)
    with pytest.raises(UsageError, match="already exists"):
        pipeline.build_baseline(home / "first", home / "keep" / "one")
    assert sorted(path for path in home.rglob("*")) == content


def test_recordings_of_two_models_are_refused(home: Path, pipeline: RCAPipeline) -> None:
    with BundleWriter(home / "wide", kind="benign") as writer:
        writer.add_sample(activations={"a": np.ones((2, WIDTH + 1), dtype=np.float32)})
    with pytest.raises(BaselineError, match="features"):
        pipeline.build_baseline([home / "first", home / "wide"], home / "both")
