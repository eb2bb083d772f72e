"""`batch` with the pipeline, on the incident that ships with the package."""

from __future__ import annotations

import json
import shutil

import pytest

from model_forensics import models
from model_forensics.analyst import AnalystSetup, PipelineAnalyst
from model_forensics.batch import Task
from model_forensics.config import Config
from model_forensics.report import read_json_result


@pytest.fixture
def bundles(case):
    """Two incidents, a benign recording, and what is no bundle."""
    directory = case / "bundles"
    for name in ("one", "zwei ä"):
        shutil.copytree(case / "incident", directory / name)
    shutil.copytree(case / "benign", directory / "benign")
    (directory / "broken").mkdir()
    (directory / "broken" / "manifest.json").write_text("{}")
    return directory


def test_a_batch_and_its_resumption(run, bundles, fitted, tmp_path):
    output = tmp_path / "out"
    arguments = ["batch", bundles, "--baseline", fitted, "--output", output, "--forensics-only", "--workers", "1"]
    done = run(*arguments, "--format", "json")
    assert done.exit_code == 4, done.output
    summary = json.loads(done.stdout)
    assert summary["counts"] == {"benign": 1, "done": 2, "refused": 1}
    assert [(group["kind"], group["key"], group["count"]) for group in summary["groups"]] == [
        ("signature", "L2.mlp", 2)
    ]
    assert "refused" not in done.stdout.split('"counts"')[0]
    for name in ("one", "zwei ä"):
        result = read_json_result(output / "results" / f"{name}.json")
        assert result.export_path == str(output / "results" / f"{name}.json")
        assert (output / "results" / f"{name}.html").exists()
    assert run(*arguments).exit_code == 2  # it is there
    again = run(*arguments, "--resume")
    assert again.exit_code == 4
    assert "refused: broken" in again.stderr
    assert run(*arguments, "--resume", "--threshold", "3").exit_code == 2
    shutil.rmtree(bundles / "broken")
    assert run(*arguments, "--force", "--exit-code").exit_code == 1  # something was found


def test_workers_write_to_the_same_log(run, bundles, tmp_path):
    log = tmp_path / "ein log.txt"
    (tmp_path / "c.yaml").write_text(f'log_file: "{log}"\n')
    arguments = ["--forensics-only", "--workers", "2", "--config", tmp_path / "c.yaml", "--output", tmp_path / "out"]
    assert run("batch", bundles, *arguments).exit_code == 4
    columns = [line.split() for line in log.read_text().splitlines() if "execution_time=" in line]
    timed = {(line[8], line[10]) for line in columns}
    assert {("incident", stage) for stage in ("baseline", "forensics", "model", "analysis")} <= timed


def test_contradictions(run, bundles, tmp_path):
    arguments = ["batch", bundles, "--output", tmp_path / "out"]
    for more in (["--force", "--resume"], ["--retry"], ["--forensics-only", "--model", "x"], ["--workers", "0"]):
        assert run(*arguments, *more).exit_code == 2
    assert run("batch", tmp_path / "none", "--output", tmp_path / "out").exit_code == 3
    assert run("batch", bundles / "one", "--output", bundles / "one" / "out").exit_code == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("named", [True, False])
def test_the_model_is_loaded_once(bundles, fitted, tmp_path, monkeypatch, named):
    """Given by the operator, or named by every bundle."""
    shutil.copytree(bundles.parent / "model", bundles / "model")
    loads = []
    load = models.load_model
    monkeypatch.setattr(models, "load_model", lambda *given, **more: loads.append(given) or load(*given, **more))
    monkeypatch.setattr(
        "model_forensics.pipeline.RCAPipeline._search", lambda *_: (_ for _ in ()).throw(RuntimeError("not searched"))
    )
    model = str(bundles / "model") if named else None
    setup = AnalystSetup(Config(), fitted, None, model, None, None, html=False, strict=False)
    analyst = PipelineAnalyst(setup)
    for name in ("one", "zwei ä", "one"):
        with pytest.raises(RuntimeError, match="not searched"):
            analyst(Task(name, name, bundles / name, tmp_path / "staged.json", tmp_path / "result.json"))
    assert len(loads) == 1
