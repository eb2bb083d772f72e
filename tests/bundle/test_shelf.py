"""Bundles on a shelf: the very same recordings, few of them open at a time."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from model_forensics.bundle import BundleWriter, Shelf, load_bundle
from model_forensics.bundle.schema import Codec
from model_forensics.errors import BundleDigestError, BundleFormatError
from model_forensics.types import Sparse


def write(path: Path, seed: int = 0, codec: Codec = "none") -> Path:
    rng = np.random.default_rng(seed)
    when = datetime(2026, 1, 1, tzinfo=UTC)
    with BundleWriter(path, kind="benign", created_at=when, bundle_id=f"b{seed}", codec=codec) as writer:
        for sample in range(2):
            dense = rng.normal(size=(3 + sample, 4)).astype(np.float32)
            sparse = Sparse(dense[0, :2].copy(), np.array([1, 5]), (3 + sample, 8))
            activations = {"embed": dense, "L0.mlp": sparse} if sample == 0 else {"embed": dense}
            outputs = {"logits": dense[:1]}
            writer.add_sample(inputs={"x": dense[None]}, activations=activations, outputs=outputs, group=f"g{sample}")
    return path


def test_a_shelved_bundle_reads_like_the_bundle(tmp_path: Path) -> None:
    for seed in range(3):
        write(tmp_path / f"b{seed}", seed)
    shelved = Shelf(open_at_once=1).add(tmp_path)
    assert [recording.bundle_id for recording in shelved] == ["b0", "b1", "b2"]
    for _ in range(2):  # the second time every one was closed in between
        for recording in shelved:
            bundle = load_bundle(recording.path)
            for name in ("kind", "created_at", "path", "content_digest", "model", "failure", "samples", "sites"):
                assert getattr(recording, name) == getattr(bundle, name)
            assert recording.activation("embed", 1).tobytes() == bundle.activation("embed", 1).tobytes()
            assert recording.activation("L0.mlp", 0).values.tobytes() == bundle.activation("L0.mlp", 0).values.tobytes()
            assert [recording.has_activation("L0.mlp", sample) for sample in range(2)] == [True, False]
            assert list(recording.recorded_activations(["L0.mlp"], 1)) == []
            together = recording.recorded_activations(["L0.mlp"], 0)["L0.mlp"]
            assert together.values.tobytes() == bundle.activation("L0.mlp", 0).values.tobytes()
            assert recording.inputs(0)["x"].tobytes() == bundle.inputs(0)["x"].tobytes()
            assert recording.outputs(1)["logits"].tobytes() == bundle.outputs(1)["logits"].tobytes()


def test_equal_descriptions_are_shared(tmp_path: Path) -> None:
    one, two = (Shelf().add(write(tmp_path / f"b{seed}", seed))[0] for seed in range(2))
    assert one.sites is not two.sites
    shelf = Shelf()
    one, two = (shelf.add(tmp_path / f"b{seed}")[0] for seed in range(2))
    assert one.sites is two.sites


def test_closed_bundles_take_little_memory(tmp_path: Path) -> None:
    values = {f"L{layer}.mlp": np.ones((1, 2), dtype=np.float32) for layer in range(200)}
    for number in range(12):
        with BundleWriter(tmp_path / f"b{number}", kind="benign") as writer:
            writer.add_sample(activations=values)
    shelf = Shelf(open_at_once=2)
    shelved = [shelf.add(tmp_path / f"b{number}") for number in range(4)]
    tracemalloc.start()
    try:
        shelved += [shelf.add(tmp_path / f"b{number}") for number in range(4, 12)]
        taken = tracemalloc.get_traced_memory()[0]
        kept = load_bundle(tmp_path / "b0")
        one_open = tracemalloc.get_traced_memory()[0] - taken
    finally:
        tracemalloc.stop()
    assert len(shelved) == 12
    assert kept.bundle_id == "b0"
    # Two are open; what stays of the others is at most 10 KiB each.
    assert taken < 2.5 * one_open + 8 * 10240


def test_a_bundle_that_changed_is_refused(tmp_path: Path) -> None:
    shelf = Shelf(open_at_once=1)
    (first,) = shelf.add(write(tmp_path / "a", 1))
    shelf.add(write(tmp_path / "b", 2))
    shutil.rmtree(tmp_path / "a")
    write(tmp_path / "a", 3)
    with pytest.raises(BundleDigestError, match="changed"):
        first.activation("embed", 0)
    shutil.rmtree(tmp_path / "a")
    with pytest.raises(BundleFormatError):
        first.activation("embed", 0)


def test_the_content_digest_is_that_of_the_content(tmp_path: Path) -> None:
    digest = load_bundle(write(tmp_path / "plain")).content_digest
    assert load_bundle(write(tmp_path / "again")).content_digest == digest
    assert load_bundle(write(tmp_path / "coded", codec="arithmetic")).content_digest == digest
    assert load_bundle(write(tmp_path / "other", seed=1)).content_digest != digest
    manifest = tmp_path / "again" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()), indent=4))
    assert load_bundle(tmp_path / "again").content_digest == digest
