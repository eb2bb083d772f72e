"""Recordings of a 4-billion-parameter model go the whole way: bundles, baseline, triage, analysis."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1]))

from model_forensics.cli.main import main
from real_recordings import import_one, real_recordings

INCIDENT_PROMPTS = ("prompt05", "prompt09")


@pytest.mark.slow
def test_build_baseline_triage_analyze(tmp_path: Path) -> None:
    files = sorted(real_recordings())
    assert len(files) == 63
    incidents, benign = tmp_path / "incidents", tmp_path / "benign"
    for file in files:
        held_out = file.name.startswith(INCIDENT_PROMPTS)
        import_one(file, (incidents if held_out else benign) / file.stem, kind="incident" if held_out else "benign")
    run = CliRunner().invoke

    fitted = run(main, ["build-baseline", str(benign), "--output", str(tmp_path / "baseline")], catch_exceptions=False)
    assert fitted.exit_code == 0, fitted.output
    assert "437 sites, 5 groups" in fitted.output

    ranked = run(
        main, ["triage", str(incidents), "--baseline", str(tmp_path / "baseline"), "--format", "json", "--quiet"]
    )
    assert ranked.exit_code == 0, ranked.output
    entries = json.loads(ranked.stdout)["entries"]
    assert len(entries) == 18
    scores = [entry["anomaly_score"] for entry in entries]
    assert scores == sorted(scores, reverse=True)
    assert all(entry["error"] is None and 0 <= entry["anomaly_score"] < 1 for entry in entries)

    output = tmp_path / "results.json"
    analyzed = run(
        main,
        ["analyze", entries[0]["path"], "--baseline", str(tmp_path / "baseline"), "--output", str(output), "--quiet"],
    )
    assert analyzed.exit_code == 0, analyzed.output
    result = json.loads(output.read_text())
    assert result["verdict"] in ("anomaly_located", "nothing_anomalous")
    assert len(result["compression_metrics"]) == 437
    assert result["fix_set"] is None
    assert result["confidence"] is None
    assert output.with_suffix(".html").stat().st_size < 1_000_000
