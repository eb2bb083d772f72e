"""When forensics read a recording in blocks, and in how much memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model_forensics import RCAPipeline, cf
from model_forensics.bundle import Bundle, BundleWriter, load_bundle
from model_forensics.config import ForensicsConfig, StreamingConfig
from model_forensics.pipeline import streaming

CONFIG = ForensicsConfig(compression_methods=("arithmetic",))


def record(path: Path, kind: str = "incident", seed: int = 0, codec: str = "none") -> Bundle:
    random = np.random.default_rng(seed)
    with BundleWriter(path, kind=kind, codec=codec) as writer:  # type: ignore[arg-type]
        for _ in range(2):
            writer.add_sample(
                activations={f"s{n}": random.standard_normal((4, 32), np.float32) for n in range(20)}, group=str(path)
            )
    return load_bundle(path)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """The memory that each call of `cf.analyze` was given."""
    limits: list[int | None] = []
    analyze = cf.analyze
    monkeypatch.setattr(cf, "analyze", lambda *a, **k: limits.append(k["memory"]) or analyze(*a, **k))
    return limits


def test_recordings_above_the_ceiling_are_streamed_or_all_where_that_is_asked_for(tmp_path: Path) -> None:
    bundle = record(tmp_path / "i")
    assert not streaming.must_stream(bundle, StreamingConfig())
    assert not streaming.must_stream(bundle, StreamingConfig(max_memory=bundle.content_bytes))
    assert streaming.must_stream(bundle, StreamingConfig(max_memory=bundle.content_bytes - 1))
    assert streaming.must_stream(bundle, StreamingConfig(enabled=True))


def test_what_the_process_takes_already_is_taken_off_the_ceiling(tmp_path: Path) -> None:
    bundle = record(tmp_path / "i")
    warnings: list[str] = []
    ceiling = streaming.resident_bytes() + (1 << 30)
    assert 800 << 20 < streaming.memory_for(bundle, ceiling, warnings.append) < 1 << 30
    assert warnings == []
    assert streaming.memory_for(bundle, 1000, warnings.append) == streaming.LEAST
    assert "max_memory of 1,000 bytes cannot be kept to" in warnings[0]


def test_what_is_kept_until_all_is_judged_is_taken_off_the_ceiling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = record(tmp_path / "i")
    monkeypatch.setattr(streaming, "resident_bytes", lambda: 100 << 20)
    assert cf.kept_memory(bundle) == 2 * 20 * 6144
    assert streaming.memory_for(bundle, 1 << 30, pytest.fail) == (1 << 30) - (148 << 20) - 2 * 20 * 6144
    monkeypatch.setattr(cf, "kept_memory", lambda _: 900 << 20)
    warnings: list[str] = []
    assert streaming.memory_for(bundle, 1 << 30, warnings.append) == streaming.LEAST
    assert "takes 943,718,400 until all is judged" in warnings[0]


def test_sections_that_stay_decoded_are_taken_off_the_ceiling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "resident_bytes", lambda: 100 << 20)
    plain, compressed = record(tmp_path / "p"), record(tmp_path / "c", codec="arithmetic")
    assert compressed.kept_bytes > 16 << 20
    given = [streaming.memory_for(bundle, 1 << 30, pytest.fail) for bundle in (plain, compressed)]
    assert given[0] - given[1] == compressed.kept_bytes


def test_processes_share_a_stated_ceiling() -> None:
    assert StreamingConfig(max_memory=900).shared_by(3).max_memory == 300
    assert StreamingConfig().shared_by(3).stated_max_memory is None


def test_analyze_streams_and_says_the_same(tmp_path: Path, asked: list[int | None]) -> None:
    record(tmp_path / "i")
    settings = {"output_dir": tmp_path / "out", "cache": {"enabled": False}, "modules": {"cca": {"enabled": False}}}
    whole, streamed = (
        RCAPipeline({**settings, "streaming": given}).analyze_incident(tmp_path / "i", overwrite=True)
        for given in ({}, {"max_memory": 1})
    )
    assert asked == [None, streaming.LEAST]
    assert whole.compression_metrics == streamed.compression_metrics
    assert any("cannot be kept" in warning for warning in streamed.warnings)


@pytest.mark.parametrize("workers", [1, 2])
def test_triage_streams_and_says_the_same(
    tmp_path: Path, asked: list[int | None], workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(4):
        record(tmp_path / "incidents" / str(number), seed=number)
        record(tmp_path / "benign" / str(number), kind="benign", seed=10 + number)
    whole, streamed = (
        RCAPipeline({"cache": {"enabled": False}, "streaming": given}).triage(
            tmp_path / "incidents", baseline=tmp_path / "benign", workers=workers
        )
        for given in ({}, {"max_memory": 1})
    )
    assert whole == streamed
    if workers == 1:  # others are other processes
        assert asked == [None] * 4 + [streaming.LEAST] * 4
        assert "cannot be kept" in caplog.text
