"""What every run leaves in the ledger and in the audit log."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from model_forensics import RCAPipeline
from model_forensics.bundle import load_bundle
from model_forensics.demo import data_directory
from model_forensics.errors import BundleError, LedgerError, StorageError, UsageError
from model_forensics.store import LEDGER_FILE, Ledger, verify

FORENSICS = {"modules": {"cca": {"enabled": False}}}


@pytest.fixture(scope="module")
def data() -> Iterator[Path]:
    with data_directory() as directory:
        yield directory


@pytest.fixture
def settings(tmp_path) -> dict:
    return {**FORENSICS, "output_dir": str(tmp_path / "out"), "audit_log": str(tmp_path / "audit.jsonl")}


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    return Ledger(tmp_path / "out" / LEDGER_FILE)


def finished(tmp_path) -> list[dict]:
    verify(tmp_path / "audit.jsonl")
    lines = map(json.loads, (tmp_path / "audit.jsonl").read_text().splitlines())
    return [line for line in lines if line["event"] == "finished"]


def test_an_analysis_is_a_row_and_two_lines(data, settings, ledger, tmp_path):
    result = RCAPipeline(settings).analyze_incident(data / "incident", data / "benign")
    found = ledger.statistics()
    assert (found.runs, found.incidents, found.refused) == (1, 1, 0)
    assert found.verdicts == {result.verdict: 1}
    assert found.seconds["total"].p50 == result.execution_time
    assert found.seconds["baseline"].p50 + found.seconds["forensics"].p50 <= result.execution_time
    (line,) = finished(tmp_path)
    assert (line["command"], line["outcome"]) == ("analyze", "success")
    assert line["digests"]["incident"] == load_bundle(data / "incident").content_digest
    assert set(line["digests"]) == {"incident", "baseline", "result"}


def test_deleted_results_lose_no_statistics(data, settings, ledger):
    result = RCAPipeline(settings).analyze_incident(data / "incident", data / "benign")
    before = ledger.statistics()
    for path in ledger.path.parent.glob("*.json"):
        path.unlink()
    assert ledger.statistics(now=before.until) == before
    assert before.anomaly_scores is not None
    assert before.anomaly_scores.p50 == result.anomaly_score


def test_a_refused_bundle_is_a_row_with_its_error(data, settings, ledger, tmp_path):
    shutil.copytree(data / "incident", tmp_path / "broken")
    (tmp_path / "broken" / "samples.jsonl").write_bytes(b"x")
    with pytest.raises(BundleError) as refusal:
        RCAPipeline(settings).analyze_incident(tmp_path / "broken")
    found = ledger.statistics()
    assert (found.runs, found.refused, found.incidents) == (1, 1, 0)
    assert found.errors == {type(refusal.value).__name__: 1}
    assert found.seconds == {}
    assert [line["outcome"] for line in finished(tmp_path)] == ["refused"]


def test_contradictory_arguments_are_no_analysis(data, settings, ledger, tmp_path):
    with pytest.raises(UsageError):
        RCAPipeline(settings).analyze_incident(data / "incident", output=tmp_path)
    assert ledger.statistics().runs == 0


def test_an_interruption_is_a_line_and_no_row(data, settings, ledger, tmp_path):
    def interrupt(stage: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        RCAPipeline(settings, progress=interrupt).analyze_incident(data / "incident", data / "benign")
    assert ledger.statistics().runs == 0
    assert [line["outcome"] for line in finished(tmp_path)] == ["interrupted"]


def test_a_ledger_that_cannot_be_written_is_refused_before_the_work(data, settings, ledger):
    ledger.path.parent.mkdir()
    ledger.path.write_bytes(b"something else, by mistake" * 100)
    steps = []
    with pytest.raises(LedgerError):
        RCAPipeline(settings, progress=lambda *step: steps.append(step)).analyze_incident(data / "incident")
    assert not steps


def test_a_result_outlives_a_ledger_that_broke_meanwhile(data, settings, ledger, tmp_path):
    def damage(stage: str, done: int, total: int) -> None:
        ledger.path.parent.mkdir(exist_ok=True)
        ledger.path.write_bytes(b"something else, by mistake" * 100)

    with pytest.raises(StorageError, match="the result is complete"):
        RCAPipeline(settings, progress=damage).analyze_incident(data / "incident", output=tmp_path / "r.json")
    assert json.loads((tmp_path / "r.json").read_text())["bundle_id"]


def test_what_could_not_be_written_keeps_its_row(data, settings, ledger, tmp_path):
    def block(stage: str, done: int, total: int) -> None:
        (tmp_path / "r.json").mkdir(exist_ok=True)

    with pytest.raises(UsageError):
        RCAPipeline(settings, progress=block).analyze_incident(data / "incident", output=tmp_path / "r.json")
    assert ledger.statistics().runs == 1


def test_other_commands_are_audited_with_what_they_read_and_wrote(data, settings, tmp_path):
    pipeline = RCAPipeline(settings)
    baseline = pipeline.build_baseline(data / "benign", tmp_path / "baseline")
    pipeline.triage(data / "incident", baseline=tmp_path / "baseline")
    built, ranked = finished(tmp_path)
    assert (built["command"], ranked["command"]) == ("build-baseline", "triage")
    assert built["digests"]["baseline"] == ranked["digests"]["baseline"] == baseline.baseline_id
    assert built["digests"]["benign"] == [load_bundle(data / "benign").content_digest]


def test_nothing_is_audited_that_nobody_asked_for(data, tmp_path):
    RCAPipeline(FORENSICS | {"output_dir": str(tmp_path)}).analyze_incident(data / "incident")
    assert {path.name for path in tmp_path.iterdir()} == {
        LEDGER_FILE,
        f"{load_bundle(data / 'incident').bundle_id}.json",
    }
