"""Memory that a bundle takes while it is opened and read in parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model_forensics.bundle import BundleWriter, checks, coded, load_bundle, sections
from model_forensics.files import SafeTensors


def test_few_sections_stay_decoded_when_a_bundle_is_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (coded, sections):
        monkeypatch.setattr(module, "SECTION", 1 << 12)
    monkeypatch.setattr(coded, "FEW_SECTIONS", 3)
    recent = coded._RecentSections(coded.CACHED_SECTIONS)
    monkeypatch.setattr(coded, "_RECENT", recent)
    most = 0

    def keep(key: object, section: object) -> None:
        nonlocal most
        coded._RecentSections.keep(recent, key, section)  # type: ignore[arg-type]
        most = max(most, len(recent._sections))

    monkeypatch.setattr(recent, "keep", keep, raising=False)
    values = np.arange(1 << 14, dtype=np.float32).reshape(128, 128)  # 16 sections
    with BundleWriter(tmp_path / "b", kind="benign", codec="arithmetic") as writer:
        writer.add_sample(activations={"x": values})
    bundle = load_bundle(tmp_path / "b")
    assert 3 < most <= 3 + 2, "a part of a tensor lies in two sections at most"
    np.testing.assert_array_equal(bundle.activation("x", 0), values)
    assert len(recent._sections) >= 16
    bundle.release_memory()
    assert len(recent._sections) == 3
    assert sum(section.nbytes for section in recent._sections.values()) == bundle.kept_bytes == 3 << 12


def test_outputs_are_given_back_while_they_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with BundleWriter(tmp_path / "b", kind="benign") as writer:
        for _ in range(4):
            writer.add_sample(activations={"x": np.ones((1, 2), np.float32)}, outputs={"logits": np.ones((2, 8))})
    released: list[SafeTensors] = []
    monkeypatch.setattr(SafeTensors, "release_memory", lambda tensors: released.append(tensors) or None)
    load_bundle(tmp_path / "b")
    assert not released, "small ones are read in one part"
    monkeypatch.setattr(checks, "_CHECKED_ITEMS", 16)
    load_bundle(tmp_path / "b")
    assert len(released) == 4


def test_activations_stay_valid_when_memory_is_given_back(golden: Path) -> None:
    bundle = load_bundle(golden)
    value = bundle.activation("L0.mlp", 1)
    before = np.array(value)
    bundle.release_memory()
    np.testing.assert_array_equal(value, before)
    np.testing.assert_array_equal(bundle.activation("L0.mlp", 1), before)
