"""`model-forensics analyze`: what it prints, writes and exits with."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import jsonschema
import pytest

from model_forensics.report import results_schema


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def test_table_names_cause_evidence_and_files(analyzed):
    results, done = analyzed
    assert done.stdout.startswith("Cause: L2.mlp (transformer.h.2.mlp.c_proj).")
    text = " ".join(done.stdout.split())  # lines break where the terminal's width wants it
    for expected in ("95 % interval", "benign outputs change", "Confidence", str(results), "results.html"):
        assert expected in text
    assert "Cause" not in done.stderr
    assert names(results.parent) == {"results.json", "results.html"}


def test_written_document_follows_the_schema(analyzed):
    document = json.loads(analyzed[0].read_text())
    jsonschema.validate(document, results_schema())
    assert document["verdict"] == "cause_found"
    assert [one["site"] for one in document["fix_set"]["interventions"]] == ["L2.mlp"]
    assert document["export_path"] == str(analyzed[0])
    assert document["evidence"]["replay"]["reproduced"]


def test_json_on_stdout_is_the_written_file(run, data, tmp_path):
    path = tmp_path / "r.json"
    done = run("analyze", data / "incident", "--donor-model", data / "reference", "--output", path, "--format", "json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    jsonschema.validate(document, results_schema())
    assert document == json.loads(path.read_text())
    assert document["verdict"] == "cause_found"
    assert {one["site"] for one in document["fix_set"]["interventions"]} == {"L2.mlp"}
    assert document["anomaly_score"] is None  # no baseline: nothing to judge with
    assert document["environment"]["donor_source"] == str(data / "reference")


def test_fitted_baseline_with_a_donor_model(run, data, fitted, tmp_path):
    path = tmp_path / "r.json"
    arguments = ["--baseline", fitted, "--donor-model", data / "reference", "--output", path, "--format", "json"]
    done = run("analyze", data / "incident", *arguments)
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert [one["site"] for one in document["fix_set"]["interventions"]] == ["L2.mlp"]
    assert document["fix_set"]["interventions"][0]["donor"]["kind"] == "reference_model"
    assert document["fix_set"]["label"] == "cause"
    assert document["fix_set"]["side_effects"] is None  # a fitted baseline holds no recordings to measure them on
    assert document["anomaly_score"] > 0.8


def test_full_evidence_is_asked_for_by_a_flag(run, data, tmp_path):
    arguments = ["analyze", data / "incident", "--donor-model", data / "reference", "--output", tmp_path / "r.json"]
    done = run(*arguments, "--evidence", "full", "--format", "json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    jsonschema.validate(document, results_schema())
    assert document["environment"]["configuration"]["modules"]["cca"]["evidence"] == "full"
    assert document["fix_set"]["reversal"]["failures"] == document["fix_set"]["reversal"]["samples"] > 0
    told = any("shuffled donors" in warning for warning in document["warnings"])
    assert told == (document["fix_set"]["shuffled"] is None), "a null says why"


def test_forensics_only_locates_and_searches_nothing(run, data, fitted, tmp_path):
    arguments = ["analyze", data / "incident", "--baseline", fitted, "--forensics-only", "--format", "json"]
    done = run(*arguments, "--output", tmp_path / "r.json", "--report", tmp_path / "page.html")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["verdict"] == "anomaly_located"
    assert document["fix_set"] is None
    assert document["evidence"] == dict.fromkeys(("replay", "search", "best_effect", "onset_agrees", "largest_change"))
    assert names(tmp_path) == {"r.json", "page.html"}
    assert (tmp_path / "page.html").read_text().lstrip().lower().startswith("<!doctype html>")
    found = run(*arguments, "--output", tmp_path / "r.json", "--exit-code", "--force")
    assert found.exit_code == 1


def test_a_higher_threshold_finds_less(run, data, fitted, tmp_path):
    arguments = [
        "analyze",
        data / "incident",
        "--baseline",
        fitted,
        "--forensics-only",
        "--output",
        tmp_path / "r.json",
    ]
    done = run(*arguments, "--threshold", "1000", "--exit-code", "--format", "json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["verdict"] == "nothing_anomalous"


def test_a_failure_that_does_not_fail_is_a_verdict(run, data, tmp_path):
    arguments = ["--model", data / "reference", "--donor-model", data / "reference", "--output", tmp_path / "r.json"]
    done = run("analyze", data / "incident", *arguments)
    assert done.exit_code == 0, done.output
    document = json.loads((tmp_path / "r.json").read_text())
    assert document["verdict"] == "not_reproduced"
    assert document["fix_set"] is None
    assert document["confidence"] is None
    assert document["evidence"]["replay"]["failing"] == 0


def test_default_place_of_the_results(run, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("analyze", data / "incident", "--forensics-only").exit_code == 0
    assert names(tmp_path / "analysis_results") == {"incident.json", "incident.html", "ledger.sqlite"}


@pytest.mark.parametrize(
    "flag",
    [
        ["--model", "m"],
        ["--donor-model", "m"],
        ["--contrast", "c"],
        ["--model-factory", "p:f"],
        ["--strict"],
        ["--evidence", "full"],
    ],
)
def test_flags_that_contradict_forensics_only(run, data, tmp_path, flag):
    done = run("analyze", data / "incident", "--forensics-only", *flag, "--output", tmp_path / "r.json")
    assert done.exit_code == 2
    assert "--forensics-only" in done.stderr
    assert flag[0] in done.stderr
    assert names(tmp_path) == set()


@pytest.mark.parametrize(
    "options",
    [
        ["--threshold", "-1"],
        ["--threshold", "nan"],
        ["--methods", ""],
        ["--methods", "zlib,lzma"],
        ["--timeout-minutes", "0"],
        ["--seed", "-1"],
        ["--device", "tpu"],
        ["--device", "cuda:99"],
        ["--granularity", "layer"],
        ["--search-strategy", "guess"],
        ["--max-fix-set-size", "0"],
        ["--search-strategy", "beam", "--beam-width", "0"],
        ["--beam-width", "4"],
        ["--search-strategy", "greedy", "--beam-width", "4"],
        ["--forensics-only", "--search-strategy", "beam"],
        ["--format", "yaml"],
        ["--no-such-option"],
        ["--model-factory", "no_colon"],
        ["--model-factory", "no_such_package.module:build"],
    ],
    ids=" ".join,
)
def test_impossible_options(run, data, tmp_path, options):
    done = run("analyze", data / "incident", *options, "--output", tmp_path / "r.json")
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    assert names(tmp_path) == set()


def test_one_file_for_both_documents(run, data, tmp_path):
    for options in (["--output", "r.html"], ["--output", "r.json", "--report", "r.json"]):
        placed = [option if option.startswith("--") else tmp_path / option for option in options]
        done = run("analyze", data / "incident", "--forensics-only", *placed)
        assert done.exit_code == 2
        assert str(tmp_path) in done.stderr
    assert names(tmp_path) == set()


def test_places_that_cannot_be_written(run, case, tmp_path):
    (tmp_path / "file").write_text("mine")
    arguments = ["analyze", case / "incident", "--forensics-only", "--output"]
    below_a_file = run(*arguments, tmp_path / "file" / "r.json")
    assert below_a_file.exit_code == 3
    assert str(tmp_path / "file") in below_a_file.stderr
    report = run(*arguments, tmp_path / "r.json", "--report", tmp_path / "file" / "r.html")
    assert report.exit_code == 3
    assert run(*arguments, tmp_path).exit_code == 2
    assert run(*arguments, case / "incident" / "r.json").exit_code == 2
    assert run("inspect", case / "incident").exit_code == 0  # the bundle is as it was
    assert names(tmp_path) == {"case", "file"}
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_directory_without_permission(run, data, tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=stat.S_IRUSR | stat.S_IXUSR)
    done = run("analyze", data / "incident", "--forensics-only", "--output", locked / "r.json")
    assert done.exit_code == 3
    assert str(locked) in done.stderr


def test_the_wrong_way_round(run, data, tmp_path):
    done = run("analyze", data / "benign", "--baseline", data / "incident", "--output", tmp_path / "r.json")
    assert done.exit_code == 3
    assert "not an incident" in done.stderr
    done = run("analyze", data / "incident", "--baseline", data / "incident", "--output", tmp_path / "r.json")
    assert done.exit_code == 3
    assert "not a benign recording" in done.stderr
    assert names(tmp_path) == set()
