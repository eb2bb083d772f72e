"""`stats`: what the ledger says, as tables and as JSON."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from model_forensics.store import LEDGER_FILE, Ledger, LedgerRow


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    directory = tmp_path / "Ergebnisse für heute"
    now = datetime.now(UTC)
    fix = {"verdict": "cause_found", "label": "cause", "causes": ("L3.mlp", "L4.attn"), "flip_rate": 0.9}
    for number, age in enumerate((timedelta(minutes=5), timedelta(days=3))):
        row = LedgerRow(str(number), now - age, bundle_id=f"inc-{number}", **fix, seconds={"total": 2.0 + number})
        Ledger(directory / LEDGER_FILE).append(row)
    Ledger(directory / LEDGER_FILE).append(
        LedgerRow("r", now, bundle_path="/b", error="BundleDigestError", message="x")
    )
    return directory


def test_tables_show_verdicts_causes_durations_and_refusals(run, filled):
    done = run("stats", "--output-dir", filled)
    assert done.exit_code == 0, done.output
    assert "So far: 3 runs, 1 refused, 2 incidents" in done.stdout
    lines = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line.strip()}
    assert lines["cause_found"] == ["cause_found", "2"]
    assert lines["cause"] == ["cause", "L3.mlp,", "L4.attn", "2", "0.90", "0.90"]
    assert lines["total,"] == ["total,", "s", "2", "2.500", "2.000", "3.000", "3.000", "3.000"]
    assert lines["BundleDigestError"] == ["BundleDigestError", "1"]


def test_one_is_no_plural_and_a_period_reads_as_a_date(run, tmp_path):
    row = LedgerRow("1", datetime.now(UTC), bundle_id="inc", verdict="no_fix_found", seconds={"total": 4321.0})
    Ledger(tmp_path / LEDGER_FILE).append(row)
    first, *_, last = run("stats", "--output-dir", tmp_path, "--since", "1d").stdout.splitlines()
    assert re.fullmatch(r"Since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC: 1 run, 0 refused, 1 incident", first)
    assert last.split()[2:4] == ["1", "4,321.000"]


def test_since_and_json(run, filled):
    done = run("stats", "--output-dir", filled, "--since", "24h", "--format", "json")
    found = json.loads(done.stdout)
    assert (found["runs"], found["refused"], found["incidents"]) == (2, 1, 1)
    assert found["causes"][0]["sites"] == ["L3.mlp", "L4.attn"]
    assert found["seconds"]["total"]["p99"] == 2.0
    assert datetime.fromisoformat(found["until"]) - datetime.fromisoformat(found["since"]) == timedelta(hours=24)
    assert found["ledger"] == str(filled / LEDGER_FILE)


def test_an_empty_ledger_is_said_so(run, tmp_path, filled):
    nowhere = run("stats", "--output-dir", tmp_path / "nowhere")
    assert nowhere.exit_code == 0
    assert nowhere.stdout == f"No analysis has ended so far. ({tmp_path / 'nowhere' / LEDGER_FILE} is not there yet)\n"
    assert not (tmp_path / "nowhere").exists()
    idle = run("stats", "--output-dir", filled, "--since", "0s")
    assert re.match(r"No analysis has ended since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC\. ", idle.stdout)
    assert "not there yet" not in idle.stdout


def test_a_wrong_period_is_a_usage_error(run, filled):
    done = run("stats", "--output-dir", filled, "--since", "yesterday")
    assert done.exit_code == 2
    assert "no period and no date" in done.stderr


def test_a_damaged_ledger_is_refused(run, tmp_path):
    (tmp_path / LEDGER_FILE).write_bytes(b"something else" * 1000)
    done = run("stats", "--output-dir", tmp_path)
    assert done.exit_code == 3
    assert "damaged" in done.stderr
