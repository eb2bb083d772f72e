"""The audit log: every command that reads or changes evidence is a pair of lines, whatever becomes of it."""

from __future__ import annotations

import base64
import json
import shutil

import pytest

from model_forensics.bundle import load_bundle
from model_forensics.cli.main import COMMANDS
from model_forensics.files import sha256_file
from model_forensics.store import verify

LEFT_OUT = {"completion", "info", "stats", "test"}  # they read and change no evidence


@pytest.fixture
def log(tmp_path, monkeypatch):
    path = tmp_path / "prüf protokoll.jsonl"
    monkeypatch.setenv("MODEL_FORENSICS_AUDIT_LOG", str(path))
    return path


def ends(log) -> list[dict]:
    """The last lines of all actions; every one was begun too, and the chain holds."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    found = [line for line in lines if line["event"] == "finished"]
    assert {line["run"] for line in lines if line["event"] == "started"} == {line["run"] for line in found}
    assert verify(log).lines == len(lines) == 2 * len(found)
    return found


def end(log) -> dict:
    (line,) = ends(log)
    return line


def test_inspect(run, data, log):
    assert run("inspect", data / "incident").exit_code == 0
    line = end(log)
    assert (line["command"], line["outcome"], line["error"]) == ("inspect", "success", None)
    assert line["digests"] == {"bundle": load_bundle(data / "incident").content_digest}


def test_an_analysis_from_the_command_line_is_one_action(run, data, log, tmp_path):
    results = tmp_path / "r.json"
    assert run("analyze", data / "incident", "--forensics-only", "--output", results).exit_code == 0
    line = end(log)
    assert line["command"] == "analyze"
    assert line["digests"]["result"] == sha256_file(results)
    assert run("report", results, "--output", tmp_path / "r2.html").exit_code == 0
    line = ends(log)[-1]
    assert line["digests"] == {"result": sha256_file(results), "report": sha256_file(tmp_path / "r2.html")}


def test_diff(run, data, log):
    assert run("diff", data / "incident", data / "benign").exit_code == 0
    sides = {
        side: load_bundle(data / name).content_digest for side, name in (("left", "incident"), ("right", "benign"))
    }
    assert end(log)["digests"] == sides


def test_compression_names_what_it_rewrote_and_what_was_refused_shows(run, case, log):
    digest = load_bundle(case / "incident").content_digest
    shutil.rmtree(case / "benign")
    (case / "broken").mkdir()
    (case / "broken" / "manifest.json").write_text("{}")
    assert run("compress-bundles", case, "--older-than", "0d").exit_code == 4
    line = end(log)
    assert (line["outcome"], line["digests"]) == ("partly_done", {"bundles": [digest]})


def test_rekey(run, case, log, monkeypatch):
    digests = sorted(load_bundle(case / name).content_digest for name in ("incident", "benign"))
    key = base64.b64encode(bytes(range(32))).decode()
    monkeypatch.setenv("MODEL_FORENSICS_ENCRYPTION_KEY", key)
    monkeypatch.setenv("MODEL_FORENSICS_OLD_ENCRYPTION_KEY", "none")
    assert run("rekey", case).exit_code == 0
    assert end(log)["digests"] == {"rekeyed": digests}
    assert key not in log.read_text()


def test_migrate_config(run, tmp_path, log):
    file = tmp_path / "c.yaml"
    file.write_text("seed: 1\n")
    before = sha256_file(file)
    assert run("migrate-config", file).exit_code == 0
    assert end(log)["digests"] == {"before": before, "configuration": sha256_file(file)}


def test_triage_names_every_incident_that_it_read(run, case, log):
    digests = sorted(load_bundle(case / name).content_digest for name in ("incident", "benign"))
    (case / "broken").mkdir()
    (case / "broken" / "manifest.json").write_text("{}")
    assert run("triage", case).exit_code == 4
    line = end(log)
    assert (line["outcome"], line["digests"]) == ("partly_done", {"incidents": digests})


def test_build_baseline(run, data, log, tmp_path):
    assert run("build-baseline", data / "benign", "--output", tmp_path / "b").exit_code == 0
    assert end(log)["digests"]["benign"] == [load_bundle(data / "benign").content_digest]


def test_a_batch_and_each_of_its_incidents(run, case, log, tmp_path):
    digest = load_bundle(case / "incident").content_digest
    shutil.rmtree(case / "benign")
    (case / "broken").mkdir()
    (case / "broken" / "manifest.json").write_text("{}")
    done = run("batch", case, "--forensics-only", "--workers", "1", "--output", tmp_path / "out")
    assert done.exit_code == 4, done.output
    found = {(line["command"], line["outcome"]): line["digests"] for line in ends(log)}
    assert found[("batch", "partly_done")] == {"summary": sha256_file(tmp_path / "out" / "summary.json")}
    assert found[("analyze", "success")]["incident"] == digest
    assert found[("analyze", "refused")] == {}


@pytest.mark.parametrize("command", ["inspect", "analyze", "triage", "compress-bundles", "rekey", "diff", "report"])
def test_what_is_refused_is_recorded_with_the_error(run, tmp_path, log, command):
    more = {"compress-bundles": ["--older-than", "1d"], "diff": [tmp_path / "none"]}
    done = run(command, tmp_path / "none", *more.get(command, []))
    assert done.exit_code in {2, 3}
    line = end(log)
    assert (line["command"], line["outcome"]) == (command, "refused")
    assert line["error"].endswith("Error")


@pytest.mark.parametrize("command", sorted(COMMANDS.keys() - LEFT_OUT - {"batch", "build-baseline", "validate-fix"}))
def test_a_log_that_cannot_be_written_stops_the_command_before_it_works(run, case, log, tmp_path, command):
    log.mkdir()
    before = {path: path.stat().st_mtime_ns for path in [tmp_path, *tmp_path.rglob("*")]}
    more = {"compress-bundles": ["--older-than", "0d"], "diff": [case / "benign"], "demo": []}
    target = [] if command == "demo" else [case / "incident"]
    done = run(command, *target, *more.get(command, []))
    assert done.exit_code == 3, done.output
    assert str(log) in done.stderr
    assert done.stdout == ""
    assert {path: path.stat().st_mtime_ns for path in [tmp_path, *tmp_path.rglob("*")]} == before


@pytest.mark.parametrize("arguments", [["info", "--schema"], ["stats"], ["completion", "bash"]])
def test_what_touches_no_evidence_is_not_recorded(run, log, arguments):
    assert run(*arguments).exit_code == 0
    assert not log.exists()


def test_of_very_many_bundles_number_and_one_digest_are_kept(run, case, log, monkeypatch):
    monkeypatch.setattr("model_forensics.store.audit.MOST_LISTED", 1)
    assert run("triage", case).exit_code == 0
    found = end(log)["digests"]["incidents"]
    assert found["count"] == 2
    assert found["digest"].startswith("sha256:")
