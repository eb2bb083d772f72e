"""`--no-cache` and `--profile`."""

from __future__ import annotations

import json

import pytest

from model_forensics.store import LEDGER_FILE


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    monkeypatch.setenv("MODEL_FORENSICS_OUTPUT_DIR", str(tmp_path / "out"))


def analyze(run, data, *options: str) -> str:
    done = run("analyze", data / "incident", "--baseline", data / "benign", "--forensics-only", "--force", *options)
    assert done.exit_code == 0, done.output
    return done


def test_no_cache_keeps_and_uses_nothing(run, data, tmp_path):
    analyze(run, data, "--no-cache")
    assert run("triage", data / "incident", "--baseline", data / "benign", "--no-cache").exit_code == 0
    assert not (tmp_path / "caches").exists()
    analyze(run, data)
    assert (tmp_path / "caches" / "model-forensics" / "entries").is_dir()


def test_results_say_nothing_of_the_cache(run, data):
    found = [json.loads(analyze(run, data, *flags, "--format", "json").stdout) for flags in ([], [], ["--no-cache"])]
    for result in found:
        del result["execution_time"]
    assert found[0] == found[1] == found[2]


def test_the_profile_goes_to_stderr_and_its_trace_to_output_dir(run, data, tmp_path):
    done = analyze(run, data, "--profile", "--format", "json")
    assert json.loads(done.stdout)["bundle_id"]
    assert "peak memory" in done.stderr
    assert "forensics" in done.stderr
    (trace,) = (tmp_path / "out").glob("profile-analyze-*.json")
    assert str(trace) in done.stderr
    assert {event["name"] for event in json.loads(trace.read_text())["traceEvents"]} >= {"baseline", "forensics"}
    assert (tmp_path / "out" / LEDGER_FILE).is_file()


def test_a_refused_input_is_profiled_and_refused(run, tmp_path):
    done = run("analyze", tmp_path / "nothing", "--profile")
    assert done.exit_code == 3
    assert "Trace:" in done.stderr
