"""Results are the same bits with the cache as without; what changes a result changes the key."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from model_forensics import RCAPipeline, cf
from model_forensics.bundle import load_bundle, load_bundles
from model_forensics.config import Config, ForensicsConfig
from model_forensics.demo import data_directory
from model_forensics.pipeline import caching

TIMES = {"execution_time", "export_path"}


@pytest.fixture(scope="module")
def data() -> Iterator[Path]:
    with data_directory() as directory:
        yield directory


@pytest.fixture
def settings(tmp_path) -> dict:
    cache = {"enabled": True, "directory": str(tmp_path / "cache")}
    return {"output_dir": str(tmp_path / "out"), "cache": cache, "modules": {"cca": {"enabled": False}}}


@pytest.fixture
def computed(monkeypatch) -> list[str]:
    """What was computed, and not taken from the cache."""
    done: list[str] = []
    for name in ("fit_baseline", "analyze"):
        original = getattr(cf, name)

        def counted(*arguments, name=name, original=original, **named):
            done.append(name)
            return original(*arguments, **named)

        monkeypatch.setattr(cf, name, counted)
    return done


def document(result) -> dict:
    return {name: value for name, value in json.loads(result.model_dump_json()).items() if name not in TIMES}


def test_results_are_the_same_with_from_and_without_the_cache(data, settings, computed):
    without = RCAPipeline({**settings, "cache": {"enabled": False}})
    expected = document(without.analyze_incident(data / "incident", data / "benign"))
    assert computed == ["fit_baseline", "analyze"]
    first = RCAPipeline(settings).analyze_incident(data / "incident", data / "benign")
    assert computed == ["fit_baseline", "analyze"] * 2
    second = RCAPipeline(settings).analyze_incident(data / "incident", data / "benign")
    assert computed == ["fit_baseline", "analyze"] * 2
    assert document(first) == document(second) == expected
    assert list(second.environment.backends) == list(first.environment.backends)


@pytest.mark.slow
def test_the_search_is_run_each_time_with_the_same_outcome(data, settings, computed, tmp_path):
    settings["modules"] = {}
    found = [RCAPipeline(settings).analyze_incident(data / "incident", data / "benign") for _ in range(2)]
    assert document(found[0]) == document(found[1])
    assert found[1].evidence.search.forwards > 0
    assert found[1].evidence.replay.reproduced


def test_a_baseline_from_the_cache_is_the_fitted_one_in_every_part(data, tmp_path):
    recordings = load_bundles(data / "benign")
    config = ForensicsConfig()
    fitted = cf.fit_baseline(recordings, config)
    again = cf.unpack_baseline(cf.pack_baseline(fitted))
    assert again.baseline_id == fitted.baseline_id
    assert again.sources == fitted.sources
    assert again.forms == fitted.forms
    incident = load_bundle(data / "incident")
    assert cf.analyze(incident, again, config) == cf.analyze(incident, fitted, config)
    for name in ("tables", "profiles", "tokens"):
        ours, theirs = getattr(again, name), getattr(fitted, name)
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)
    for ours, theirs in zip(again.moments, fitted.moments, strict=True):
        for name in ("count", "total", "square", "positive", "rows"):
            np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({"anomaly_threshold": 3.0}, ["analyze"]),
        ({"compression_methods": ["arithmetic"]}, ["fit_baseline", "analyze"]),
        ({"entropy_window": 32}, ["fit_baseline", "analyze"]),
        ({"baseline_samples": 8}, ["fit_baseline", "analyze"]),
    ],
)
def test_what_depends_on_a_changed_setting_is_computed_anew(data, settings, computed, change, again):
    RCAPipeline(settings).analyze_incident(data / "incident", data / "benign")
    computed.clear()
    settings["modules"] = {"cca": {"enabled": False}, "cf": change}
    RCAPipeline(settings).analyze_incident(data / "incident", data / "benign")
    assert computed == again


def test_settings_of_other_things_change_no_key(data, settings, computed, tmp_path):
    RCAPipeline(settings).analyze_incident(data / "incident", data / "benign")
    computed.clear()
    other = {**settings, "seed": 7, "output_dir": str(tmp_path / "other"), "timeout_minutes": 1}
    RCAPipeline(other).analyze_incident(data / "incident", data / "benign")
    assert computed == []


def test_a_copied_incident_is_the_same_and_moved_sources_are_found_where_they_are(data, settings, computed, tmp_path):
    RCAPipeline(settings).analyze_incident(data / "incident", data / "benign")
    computed.clear()
    shutil.copytree(data / "incident", tmp_path / "copy")
    shutil.copytree(data / "benign", tmp_path / "benign")
    RCAPipeline(settings).analyze_incident(tmp_path / "copy", data / "benign")
    assert computed == []
    RCAPipeline(settings).analyze_incident(tmp_path / "copy", tmp_path / "benign")
    assert computed == ["fit_baseline"], "the baseline knows where its sources are; its scores are the same"


def test_recordings_in_memory_are_not_kept(data, settings, computed, monkeypatch):
    incident = load_bundle(data / "incident")
    monkeypatch.setattr(type(incident), "content_digest", None)
    kept = caching.Kept(Config.from_dict(settings).cache)
    config = ForensicsConfig()
    for _ in range(2):
        kept.forensics(incident, None, config, lambda: cf.analyze(incident, None, config), lambda done, total: None)
    assert computed == ["analyze"] * 2


def test_changed_code_makes_another_key(tmp_path):
    (tmp_path / "part.py").write_text("x = 1")
    before = caching._code_digest(tmp_path)
    (tmp_path / "part.py").write_text("x = 2")
    assert caching._code_digest(tmp_path) != before


def test_a_damaged_cache_changes_no_result(data, settings, computed, tmp_path):
    expected = document(RCAPipeline(settings).analyze_incident(data / "incident", data / "benign"))
    for path in (tmp_path / "cache" / "entries").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:-1] + b"~")
    computed.clear()
    assert document(RCAPipeline(settings).analyze_incident(data / "incident", data / "benign")) == expected
    assert computed == ["fit_baseline", "analyze"]


def test_progress_is_told_of_a_stage_that_comes_from_the_cache(data, settings):
    RCAPipeline(settings).analyze_incident(data / "incident", data / "benign")
    told = []
    RCAPipeline(settings, progress=lambda *step: told.append(step)).analyze_incident(data / "incident", data / "benign")
    samples = len(load_bundle(data / "incident").samples)
    assert told == [("forensics", samples, samples)]


def test_without_a_home_nothing_is_kept_and_a_warning_says_so(monkeypatch, caplog):
    monkeypatch.delenv("XDG_CACHE_HOME")

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    assert caching.Kept(Config().cache)._cache is None
    assert "set cache.directory" in caplog.text
