"""Recordings that are read in blocks of sites: the same result to the last bit, whatever the memory."""

from __future__ import annotations

import base64
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from model_forensics.bundle import Bundle, BundleWriter, load_bundle
from model_forensics.cf import analyze, blocks, fit_baseline, kept_memory, least_memory
from model_forensics.config import ForensicsConfig
from model_forensics.errors import BundleFormatError
from model_forensics.files import KEY_VARIABLE
from model_forensics.types import SiteInfo, Sparse

CONFIG = ForensicsConfig(entropy_window=32)
SITES = 21


def record(path: Path, kind: str, seed: int, *, samples: int = 3, codec: str = "none", strange: bool = False) -> Path:
    random = np.random.default_rng(seed)
    with BundleWriter(path, kind=kind, codec=codec) as writer:  # type: ignore[arg-type]
        for site in range(0, SITES, 4):
            writer.declare_site(
                SiteInfo(name=f"s{site}", module="m", kind="module", layer=None, features=40 + site, dtype="bfloat16")
            )
        for sample in range(samples):
            tokens = 1 if sample == 1 else int(random.integers(2, 12))
            values: dict[str, np.ndarray | Sparse] = {}
            for site in range(SITES):
                dense = (random.standard_normal((tokens, 40 + site)) * (1 + np.arange(40 + site))).astype(np.float32)
                if strange and site in (5, 6, 12):
                    dense[:, 10:20] *= 30
                if strange and site == 9 and sample == 2:
                    dense[0, 3] = np.nan
                if site % 4 == 0:
                    values[f"s{site}"] = (dense.view(np.uint32) >> 16).astype(np.uint16)
                elif site % 4 == 1:
                    kept = np.flatnonzero(random.random(dense.size) < 0.5)
                    values[f"s{site}"] = Sparse(dense.reshape(-1)[kept], kept, dense.shape)
                elif not (site == 10 and sample == 2):
                    values[f"s{site}"] = dense
            writer.add_sample(activations=values, group=f"{path.name}{sample}")
    return path


@pytest.fixture(scope="module")
def benign(tmp_path_factory: pytest.TempPathFactory) -> list:
    root = tmp_path_factory.mktemp("benign")
    return [load_bundle(record(root / f"b{seed}", "benign", seed)) for seed in range(8)]


@pytest.mark.parametrize("codec", ["none", "arithmetic"])
@pytest.mark.parametrize(("memory", "encrypted"), [(1, False), (200_000, False), (200_000, True)])
def test_results_are_the_same_to_the_last_bit(
    tmp_path: Path, benign: list, codec: str, memory: int, encrypted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if encrypted:
        monkeypatch.setenv(KEY_VARIABLE, base64.b64encode(bytes(32)).decode())
    incident = load_bundle(record(tmp_path / "i", "incident", 99, codec=codec, strange=True))
    assert len(blocks.blocks_of(incident, fit_baseline(benign, CONFIG).layout, memory)) > 2
    for baseline in (None, fit_baseline(benign, CONFIG)):
        whole = analyze(incident, baseline, CONFIG)
        assert analyze(incident, baseline, CONFIG, memory=memory) == whole
        assert any(metric.is_anomalous for metric in whole.metrics)
        assert (baseline is not None) == any(metric.worst_windows for metric in whole.metrics)


def test_sites_that_the_baseline_lacks(tmp_path: Path, benign: list) -> None:
    incident = load_bundle(record(tmp_path / "i", "incident", 99))
    with BundleWriter(tmp_path / "few", kind="benign") as writer:
        for bundle in benign:
            for sample in range(len(bundle.samples)):
                kept = {s: bundle.activation(s, sample) for s in ("s2", "s3") if bundle.has_activation(s, sample)}
                writer.add_sample(activations=kept)
    baseline = fit_baseline([load_bundle(tmp_path / "few")], CONFIG)
    assert analyze(incident, baseline, CONFIG, memory=1) == analyze(incident, baseline, CONFIG)


def test_a_block_holds_as_many_sites_as_fit(tmp_path: Path) -> None:
    bundle = load_bundle(record(tmp_path / "i", "incident", 0))
    layout = blocks.Layout(tuple(bundle.sites.values()))
    sizes = [bundle.largest_entries(info.name) for info in layout.sites]
    for sample in range(3):
        for info, largest in zip(layout.sites, sizes, strict=True):
            if bundle.has_activation(info.name, sample):
                value = bundle.activation(info.name, sample)
                assert (value.values if isinstance(value, Sparse) else value).size <= largest
    for entries in (1, 900, 3000, 1 << 40):
        found = blocks.blocks_of(bundle, layout, entries * blocks.BYTES_AN_ENTRY)
        assert [number for block in found for number in range(*block.sites.indices(99))] == list(range(SITES))
        for block in found:
            inside = sizes[block.sites]
            assert len(inside) == 1 or sum(inside) <= entries
            assert block.layout.sites == layout.sites[block.sites]
    assert least_memory(bundle) == max(sizes) * blocks.BYTES_AN_ENTRY


def test_all_single_tokens_count_towards_constant_channels(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "i", kind="incident") as writer:
        for number in range(2):
            writer.add_sample(activations={"x": np.full((1, 4), number + 1, np.float32)})
    (metric,) = analyze(load_bundle(tmp_path / "i"), None, CONFIG).metrics
    assert metric.integrity.constant_channels == 0


@pytest.mark.parametrize("memory", [1, 1 << 40])
def test_what_was_read_is_given_back_after_each_sample(
    tmp_path: Path, memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where all sites are one block: many short samples are larger than memory too."""
    bundle = load_bundle(record(tmp_path / "i", "incident", 0, samples=4))
    events: list[str] = []
    read, release = Bundle.recorded_activations, Bundle.release_memory
    monkeypatch.setattr(Bundle, "recorded_activations", lambda *a: events.append("read") or read(*a))
    monkeypatch.setattr(Bundle, "release_memory", lambda *a: events.append("release") or release(*a))
    analyze(bundle, None, CONFIG, memory=memory)
    assert len(events) >= 16
    assert events == ["read", "release"] * (len(events) // 2)
    events.clear()
    analyze(bundle, None, CONFIG)
    assert set(events) == {"read"}


def test_no_more_is_kept_of_a_sample_than_the_ceiling_allows_for(tmp_path: Path) -> None:
    def one(path: Path, kind: str, samples: int) -> Bundle:
        random = np.random.default_rng(samples)
        with BundleWriter(path, kind=kind) as writer:  # type: ignore[arg-type]
            for number in range(samples):
                values = {f"L{site}.mlp": random.standard_normal((2, 8), np.float32) for site in range(8)}
                writer.add_sample(activations=values, group=f"{path.name}{number}")
        return load_bundle(path)

    baseline = fit_baseline([one(tmp_path / "benign", "benign", 12)], CONFIG)
    baseline.prepare(CONFIG)
    few, many = one(tmp_path / "few", "incident", 20), one(tmp_path / "many", "incident", 120)
    analyze(few, baseline, CONFIG, memory=1 << 40)
    peaks = []
    for bundle in (few, many):
        tracemalloc.start()
        analyze(bundle, baseline, CONFIG, memory=1 << 40)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    allowed = kept_memory(many) - kept_memory(few)
    assert allowed / 2 < peaks[1] - peaks[0] < allowed


def test_features_that_no_value_backs_take_no_memory(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "i", kind="incident") as writer:
        writer.add_sample(activations={"x": Sparse(np.ones(1, np.float32), np.array([0]), (1, 1 << 30))})
    with pytest.raises(BundleFormatError, match="1,073,741,824 features of all sites"):
        analyze(load_bundle(tmp_path / "i"), None, CONFIG)
