"""Every other command: triage, build-baseline, validate-fix, inspect, report, info, demo."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from model_forensics.cli.main import COMMANDS, main

COMMAND = [sys.executable, "-c", "from model_forensics.cli.main import main; main(prog_name='model-forensics')"]


@pytest.fixture
def bundles(case, edit_manifest):
    """Three bundles whose orders by anomaly, size and date all differ."""
    directory = case / "bundles"
    for name, source, created in (
        ("a", "benign", "2026-01-02"),
        ("b", "incident", "2026-01-01"),
        ("c", "incident", ""),
    ):
        shutil.copytree(case / source, directory / name)
        when = f"{created or '2026-01-03'}T00:00:00+00:00"
        edit_manifest(
            directory / name, lambda manifest, name=name, when=when: manifest.update(bundle_id=name, created_at=when)
        )
    return directory


def entries(done) -> list[dict]:
    return json.loads(done.stdout)["entries"]


def order(done) -> list[str]:
    return [Path(entry["path"]).name for entry in entries(done)]


def test_triage_sorts_by_each_key(run, bundles, fitted):
    arguments = ["triage", bundles, "--baseline", fitted, "--format", "json", "--sort-by"]
    by_anomaly = run(*arguments, "anomaly")
    assert by_anomaly.exit_code == 0, by_anomaly.output
    assert order(by_anomaly)[-1] == "a"
    scores = [entry["anomaly_score"] for entry in entries(by_anomaly)]
    assert scores == sorted(scores, reverse=True)
    assert order(run(*arguments, "size"))[0] == "a"
    assert order(run(*arguments, "date")) == ["c", "a", "b"]
    flat = json.loads(run(*arguments, "date", "--top", "1", "--no-groups").stdout)
    assert [Path(entry["path"]).name for entry in flat] == ["c"]
    assert run(*arguments, "name").exit_code == 2


def test_triage_table(run, bundles):
    done = run("triage", bundles, "--sort-by", "date", "--top", "2", "--no-groups")
    assert done.exit_code == 0
    rows = [line.split()[:2] for line in done.stdout.splitlines()[1:]]
    assert rows == [["1", "c"], ["2", "a"]]


def test_triage_shows_groups(run, bundles, fitted):
    (bundles / "broken").mkdir()
    (bundles / "broken" / "manifest.json").touch()
    arguments = ["triage", bundles, "--baseline", fitted]
    table = run(*arguments)
    rows = [line.split() for line in table.stdout.splitlines()[1:]]
    assert [(row[0], row[1], row[-1]) for row in rows] == [("1", "2", "b"), ("2", "1", "a")]
    found = json.loads(run(*arguments, "--format", "json").stdout)
    assert [(group["count"], group["signature"]) for group in found["groups"]] == [(2, "L2.mlp"), (1, None)]
    assert [entry["group"] for entry in found["entries"]] == [1, 1, 2, None]
    first = json.loads(run(*arguments, "--format", "json", "--top", "1").stdout)
    assert [entry["group"] for entry in first["entries"]] == [1, 1, None]


def test_triage_csv(run, bundles, fitted):
    shutil.move(bundles / "b", bundles / 'b, "ä"')
    (bundles / "a" / "manifest.json").unlink()
    done = run("triage", bundles, "--baseline", fitted, "--format", "csv")
    assert done.exit_code == 4
    rows = list(csv.DictReader(done.stdout.splitlines()))
    assert {Path(row["path"]).name for row in rows} == {"a", 'b, "ä"', "c"}
    assert [row["group"] for row in rows] == ["1", "1", ""]
    assert rows[0]["signature"] == "L2.mlp"
    assert rows[2]["anomaly_score"] == ""
    assert "manifest.json is missing" in rows[2]["error"]


def test_no_cell_of_a_csv_is_a_formula(run, bundles, fitted, monkeypatch):
    shutil.copytree(bundles, bundles.parent / "=1+1")
    (bundles.parent / "=1+1" / "a").rename(bundles.parent / "=1+1" / "a\nb")
    monkeypatch.chdir(bundles.parent)
    done = run("triage", "=1+1", "--baseline", fitted, "--format", "csv")
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert sorted(row["path"] for row in rows) == ["'=1+1/a\nb", "'=1+1/b", "'=1+1/c"]


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems take UTF-8 only")
@pytest.mark.parametrize("output_format", ["table", "csv", "json"])
def test_triage_of_names_that_are_not_utf_8(run, bundles, fitted, output_format):
    (bundles / "a").rename(os.fsdecode(os.fsencode(bundles / "a") + b"\xff"))
    done = run("triage", bundles, "--baseline", fitted, "--format", output_format, "--no-groups")
    assert done.exit_code == 0, done.output


def test_triage_lists_broken_and_foreign_bundles(run, bundles, fitted, edit_manifest):
    (bundles / "a" / "manifest.json").unlink()
    edit_manifest(bundles / "c", lambda manifest: manifest["model"].update(architecture="Other"))
    done = run("triage", bundles, "--baseline", fitted, "--top", "1", "--no-groups")
    assert done.exit_code == 4
    assert done.stdout.splitlines()[1].split()[1] == "b"
    for name in ("a", "c"):
        assert f"refused: {bundles / name}" in done.stderr
    (bundles / "b" / "samples.jsonl").unlink()
    assert run("triage", bundles, "--baseline", fitted).exit_code == 3  # nothing could be ranked


def test_triage_in_several_processes_says_the_same(run, bundles, fitted):
    (bundles / "a" / "manifest.json").unlink()
    arguments = ["triage", bundles, "--baseline", fitted, "--format", "json"]
    alone, shared = run(*arguments, "--workers", "1"), run(*arguments, "--workers", "2")
    assert (shared.exit_code, shared.stdout) == (4, alone.stdout)
    assert run(*arguments, "--workers", "0").exit_code == 2


def test_triage_of_nothing(run, tmp_path):
    for directory in (tmp_path, tmp_path / "none"):
        done = run("triage", directory)
        assert done.exit_code == 3
        assert str(directory) in done.stderr


def test_build_baseline_replaces_only_when_asked(run, data, fitted, tmp_path):
    target = tmp_path / "baseline"
    shutil.copytree(fitted, target)
    (target / "mine.txt").write_text("kept")
    refused = run("build-baseline", data / "benign", "--output", target)
    assert refused.exit_code == 2
    assert (target / "mine.txt").exists()
    replaced = run("build-baseline", data / "benign", "--output", target, "--force", "--samples", "10")
    assert replaced.exit_code == 0, replaced.output
    assert "10 groups" in replaced.stdout
    assert not (target / "mine.txt").exists()


def test_build_baseline_from_what_is_not_benign(run, data, tmp_path):
    for source, words in ((data / "incident", "is an incident"), (tmp_path, "no bundles"), (tmp_path / "x", "no such")):
        done = run("build-baseline", source, "--output", tmp_path / "baseline")
        assert done.exit_code == 3, done.output
        assert str(source) in done.stderr
        assert words in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_build_baseline_combines_and_extends(run, case, edit_manifest, tmp_path):
    shutil.copytree(case / "benign", case / "more")
    lines = (case / "more" / "samples.jsonl").read_text().replace('"group":"', '"group":"other-')
    (case / "more" / "samples.jsonl").write_text(lines)
    edit_manifest(case / "more", lambda manifest: manifest.update(bundle_id="more"))
    arguments = ["--samples", "6", "--methods", "arithmetic"]

    def build(*sources):
        done = run("build-baseline", *sources, "--output", tmp_path / "b", "--force", *arguments)
        assert done.exit_code == 0, done.output
        return done.stdout

    at_once = build(case / "benign", case / "more")
    assert build(case / "benign") != at_once
    assert build(tmp_path / "b", case / "more") == at_once
    build(case / "benign")
    updated = run("build-baseline", case / "more", "--update", tmp_path / "b", *arguments)
    assert (updated.exit_code, updated.stdout) == (0, at_once)
    for wrong in (["--update", case / "benign"], ["--update", tmp_path / "b", "--output", tmp_path / "c"], []):
        assert run("build-baseline", case / "more", *wrong).exit_code == 2
    shutil.rmtree(case / "more")
    done = run("build-baseline", tmp_path / "b", "--output", tmp_path / "c")
    assert done.exit_code == 3
    assert str(case / "more") in done.stderr
    assert "along with the baseline" in done.stderr
    assert not (tmp_path / "c").exists()
    assert run("build-baseline", "--output", tmp_path / "c").exit_code == 2


def test_validate_fix_holds(run, data, analyzed):
    done = run("validate-fix", analyzed[0], "--model", data / "model", "--format", "json")
    assert done.exit_code == 0, done.output
    validation = json.loads(done.stdout)
    assert validation["holds"]
    recorded, measured = validation["recorded"], validation["measured"]
    for key in ("flips", "samples", "groups", "flip_rate", "recovery", "explained_away", "necessity", "side_effects"):
        assert measured[key] == recorded[key], key


def test_validate_fix_uses_the_recorded_threshold(run, data, tmp_path):
    path = tmp_path / "r.json"
    arguments = ["--baseline", data / "benign", "--threshold", "2.9", "--methods", "arithmetic", "--output", path]
    assert run("analyze", data / "incident", *arguments).exit_code == 0
    done = run("validate-fix", path, "--model", data / "model", "--format", "json")
    assert done.exit_code == 0, done.output
    validation = json.loads(done.stdout)
    assert validation["measured"]["explained_away"] == validation["recorded"]["explained_away"]


def test_validate_fix_from_another_directory(run, case, tmp_path, monkeypatch):
    monkeypatch.chdir(case)
    arguments = ["--baseline", "benign", "--donor-model", "reference", "--output", "r.json"]
    assert run("analyze", "incident", *arguments).exit_code == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    done = run("validate-fix", case / "r.json", "--model", case / "model")
    assert done.exit_code == 0, done.output
    assert "holds" in done.stdout


def test_validate_fix_refuses(run, case, analyzed, tmp_path, edit_manifest):
    results = analyzed[0]
    intact = run("validate-fix", results, "--model", case / "reference")  # does not fail: nothing to prove
    assert intact.exit_code == 3
    assert "fails" in intact.stderr
    edit_manifest(case / "incident", lambda manifest: manifest.update(bundle_id="another"))
    other = run("validate-fix", results, "--model", case / "model", "--incident", case / "incident")
    assert other.exit_code == 3
    assert "another" in other.stderr
    missing = run("validate-fix", tmp_path / "none.json", "--model", case / "model")
    assert missing.exit_code == 3
    assert "none.json" in missing.stderr
    assert run("validate-fix", results).exit_code == 2
    located = tmp_path / "located.json"
    assert run("analyze", case / "incident", "--forensics-only", "--output", located).exit_code == 0
    nothing = run("validate-fix", located, "--model", case / "model")
    assert nothing.exit_code == 3
    assert "no fix set" in nothing.stderr


def test_inspect(run, data):
    shown = json.loads(run("inspect", data / "incident", "--format", "json").stdout)
    assert shown["kind"] == "incident"
    assert "L2.mlp" in [site["name"] for site in shown["sites"]]
    table = run("inspect", data / "incident")
    assert table.exit_code == 0
    assert f"bundle_id: {shown['bundle_id']}" in table.stdout
    assert isinstance(shown["bytes"], int)
    assert re.search(r"^size on disk: [\d.,]+ [KM]iB$", table.stdout, re.MULTILINE)
    assert "bytes" not in table.stdout
    refused = run("inspect", data / "model")
    assert refused.exit_code == 3
    assert str(data / "model") in refused.stderr


def test_report_renders_the_same_page(run, analyzed, tmp_path):
    results = analyzed[0]
    page = tmp_path / "page.html"
    done = run("report", results, "--output", page)
    assert done.exit_code == 0, done.output
    assert str(page) in done.stdout
    assert page.read_bytes() == results.with_suffix(".html").read_bytes()
    copy = tmp_path / "copy.json"
    shutil.copy(results, copy)
    assert run("report", copy).exit_code == 0
    assert copy.with_suffix(".html").exists()
    copy.write_text('{"schema_version": "9"}')
    refused = run("report", copy, "--output", tmp_path / "other.html")
    assert refused.exit_code == 3
    assert str(copy) in refused.stderr
    assert not (tmp_path / "other.html").exists()


def test_report_does_not_replace_its_results(run, analyzed, tmp_path):
    copy = tmp_path / "results.html"
    shutil.copy(analyzed[0], copy)
    assert run("report", copy).exit_code == 2
    assert copy.read_bytes() == analyzed[0].read_bytes()


def test_info_in_words(run):
    done = run("info")
    assert done.exit_code == 0
    assert done.stdout.startswith("health: ")
    assert "entropy_windows: " in done.stdout


def test_demo(run, tmp_path):
    done = run("demo", "--output", tmp_path / "demo")
    assert done.exit_code == 0, done.output
    assert "$ model-forensics analyze" in done.stdout
    assert "Cause: L2.mlp" in done.stdout
    assert "Planted: output channels of L2.mlp" in done.stdout
    assert "That is the cause that was named." in done.stdout
    assert {path.name for path in (tmp_path / "demo").iterdir()} == {"results.json", "results.html", "ledger.sqlite"}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(run, command):
    done = run(command, "--help")
    assert done.exit_code == 0
    assert f"model-forensics {command}" in done.stdout


def test_unknown_commands_and_no_command(run):
    assert run("analyse").exit_code == 2
    assert "analyze" in run("--help").stdout
    assert run("--version").exit_code == 0
    assert main.name


def test_a_defect_is_exit_5_with_a_traceback(run, data, monkeypatch):
    def broken(*_arguments, **_keywords):
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr("model_forensics.bundle.load_bundle", broken)
    done = run("inspect", data / "incident")
    assert done.exit_code == 5
    assert "ZeroDivisionError: a defect" in done.stderr
    assert done.stdout == ""


def test_machine_output_of_a_process(data, tmp_path):
    arguments = ["analyze", data / "incident", "--donor-model", data / "reference", "--format", "json"]
    done = subprocess.run(
        [*COMMAND, *map(str, arguments), "--output", str(tmp_path / "r.json")], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["verdict"] == "cause_found"
    assert b"Traceback" not in done.stderr


def test_a_reader_that_stops_reading(data):
    process = subprocess.Popen(
        [*COMMAND, "inspect", str(data / "incident")], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.close()  # before anything is printed, as `| head -0` does
    _, errors = process.communicate()
    assert b"Traceback" not in errors
    assert b"BrokenPipeError" not in errors
    assert process.returncode == 0


def test_a_process_that_is_interrupted(data, tmp_path):
    output = tmp_path / "out" / "r.json"
    marker = tmp_path / "started"
    program = (
        "import pathlib, signal, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a suite in the background has it ignored
        "from model_forensics import cf\n"
        "from model_forensics.cli.main import main\n"
        "def wait(*arguments, **keywords):\n"
        f"    pathlib.Path({str(marker)!r}).touch()\n"
        "    time.sleep(600)\n"
        "cf.analyze = wait\n"
        f"main(['analyze', {str(data / 'incident')!r}, '--forensics-only', '--output', {str(output)!r}])\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        while not marker.exists() and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        printed, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, errors
    assert b"interrupted" in errors
    assert b"Traceback" not in errors
    assert printed == b""
    assert not output.parent.exists()
