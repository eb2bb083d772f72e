"""Ctrl-C at every moment at which a command changes the disk: its output is there whole or not at all, and exit 130."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from model_forensics.bundle import load_bundle
from model_forensics.cf import Baseline
from model_forensics.config import load_config
from model_forensics.store import LEDGER_FILE, AuditLog, Ledger


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()} if directory.exists() else set()


@pytest.mark.parametrize("earlier", [False, True])
def test_analyze_leaves_result_and_page_or_neither(each_moment, data, tmp_path, earlier):
    both = {"r.html", "r.json"}
    ended = []

    def prepare(moment: int) -> list:
        place = tmp_path / str(moment)
        (tmp_path / "c.yaml").write_text(f"output_dir: {place / 'kept'}\n")
        if earlier:
            place.mkdir()
            for name in both:
                (place / name).write_text("earlier")
        options = ["--config", tmp_path / "c.yaml", *(["--force"] if earlier else [])]
        return ["analyze", data / "incident", "--forensics-only", "--no-cache", "--output", place / "r.json", *options]

    def check(moment: int) -> None:
        place = tmp_path / str(moment)
        found = names(place) - {"kept"}
        ledger = Ledger(place / "kept" / LEDGER_FILE)
        new = found == both and "earlier" not in {(place / name).read_text() for name in both}
        assert new or found == (both if earlier else set())
        if new:
            assert json.loads((place / "r.json").read_text())["bundle_id"] == "incident"
        elif earlier:
            assert {(place / name).read_text() for name in both} == {"earlier"}
        assert ledger.statistics().runs == new  # the row is there with the result
        ended.append(new)

    assert each_moment(prepare, check) >= 6
    assert True in ended


def test_build_baseline(each_moment, data, tmp_path):
    def check(moment: int) -> None:
        found = names(tmp_path)
        assert found <= {f"b{number}" for number in range(1, moment + 1)}
        if f"b{moment}" in found:
            assert Baseline.load(tmp_path / f"b{moment}").sites

    arguments = ["build-baseline", data / "benign", "--samples", "6", "--methods", "arithmetic", "--output"]
    assert each_moment(lambda moment: [*arguments, tmp_path / f"b{moment}"], check) >= 4


def test_compress_bundles(each_moment, case, tmp_path):
    digest = load_bundle(case / "incident").content_digest
    place = tmp_path / "bundles"

    def prepare(moment: int) -> list:
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(case / "incident", place / "incident")
        return ["compress-bundles", place, "--older-than", "0d"]

    def check(moment: int) -> None:
        assert {name for name in names(place) if not name.startswith(".")} == {"incident"}
        assert load_bundle(place / "incident").content_digest == digest
        for left in place.iterdir():  # a workplace may stay, empty
            assert left.name == "incident" or not [path for path in left.rglob("manifest.json*") if path.is_file()]

    assert each_moment(prepare, check) >= 6


def test_report_and_diff(each_moment, run, data, tmp_path):
    results = tmp_path / "r.json"
    assert run("analyze", data / "incident", "--forensics-only", "--output", results).exit_code == 0
    pages = tmp_path / "pages"
    pages.mkdir()

    def check(moment: int) -> None:
        for path in pages.iterdir():
            assert path.name.endswith(".html")
            assert path.read_text().rstrip().endswith("</html>")

    assert each_moment(lambda n: ["report", results, "--output", pages / f"r{n}.html"], check) >= 3
    assert each_moment(lambda n: ["diff", results, results, "--report", pages / f"d{n}.html"], check) >= 3


def test_the_audit_log(each_moment, run, data, tmp_path, monkeypatch):
    """It holds after every Ctrl-C, and knows of every page that is there; the next command is recorded as ever."""
    results, log = tmp_path / "r.json", AuditLog(tmp_path / "log" / "audit.jsonl")
    assert run("analyze", data / "incident", "--forensics-only", "--output", results).exit_code == 0
    monkeypatch.setenv("MODEL_FORENSICS_AUDIT_LOG", str(log.path))
    page = tmp_path / "r.html"

    def prepare(_: int) -> list:
        shutil.rmtree(log.path.parent, ignore_errors=True)
        page.unlink(missing_ok=True)
        return ["report", results, "--output", page]

    def check(_: int) -> None:
        lines = log.verify().lines if log.path.exists() else 0
        assert lines or not page.exists()
        assert run("report", results, "--output", page, "--force").exit_code == 0
        assert log.verify().lines == lines + 2

    assert each_moment(prepare, check) >= 20


def test_migrate_config(each_moment, tmp_path):
    file = tmp_path / "c.yaml"

    def prepare(moment: int) -> list:
        shutil.rmtree(tmp_path)
        tmp_path.mkdir()
        file.write_text("seed: 5  # mine\n")
        return ["migrate-config", file]

    def check(moment: int) -> None:
        assert names(tmp_path) <= {"c.yaml", "c.yaml.v1.0.bak"}
        assert load_config(file, environment={}).config.seed == 5

    assert each_moment(prepare, check) >= 4
