"""`batch` with the pipeline, on the incident that ships with the package."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from model_forensics import models
from model_forensics.batch import Places, Task
from model_forensics.config import Config
from model_forensics.pipeline.analyst import AnalystSetup, PipelineAnalyst
from model_forensics.pipeline.commission import Commission
from model_forensics.report import read_json_result
from model_forensics.store import LEDGER_FILE, Ledger


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


def test_contradictions(run, bundles, tmp_path):
    arguments = ["batch", bundles, "--output", tmp_path / "out"]
    for more in (["--force", "--resume"], ["--retry"], ["--forensics-only", "--model", "x"], ["--workers", "0"]):
        assert run(*arguments, *more).exit_code == 2
    assert run("batch", tmp_path / "none", "--output", tmp_path / "out").exit_code == 3
    assert run("batch", bundles / "one", "--output", bundles / "one" / "out").exit_code == 2
    assert run("batch", bundles, "--output", bundles / "one" / "out").exit_code == 2
    assert not (tmp_path / "out").exists()


def test_the_output_may_be_among_the_bundles(run, bundles, fitted):
    arguments = ["batch", bundles, "--baseline", fitted, "--output", bundles / "out", "--forensics-only"]
    arguments += ["--workers", "1", "--no-html", "--format", "json"]
    counts = json.loads(run(*arguments).stdout)["counts"]
    assert counts == {"benign": 1, "done": 2, "refused": 1}
    assert json.loads(run(*arguments, "--resume").stdout)["counts"] == counts


def test_a_bundle_without_a_model_is_refused_where_a_donor_is_asked_for(run, bundles, fitted, tmp_path):
    """The other bundles may name one."""
    done = run("batch", bundles / "one", "--baseline", fitted, "--output", tmp_path / "out", "--workers", "1",
               "--donor-model", bundles.parent / "model")  # fmt: skip
    assert done.exit_code == 4, done.output
    assert "a donor without a model" in done.stderr


def test_names_that_are_not_utf_8(run, bundles, fitted, tmp_path):
    shutil.rmtree(bundles / "broken")
    output = tmp_path / os.fsdecode(b"\xffout")
    (bundles / "one").rename(os.fsdecode(os.fsencode(bundles / "one") + b"\xff"))
    arguments = ["--baseline", fitted, "--output", output, "--forensics-only", "--format", "json"]
    done = run("batch", bundles, *arguments, "--workers", "1")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["output"].endswith("\\udcffout")
    (odd,) = (path for path in (output / "results").glob("one*~*.json"))
    assert read_json_result(odd).incident.path.endswith("one\\udcff")


def test_a_poisoned_bundle_has_a_row_among_the_results(bundles, tmp_path):
    config = Config.from_dict({"output_dir": str(tmp_path / "results"), "modules": {"cca": {"enabled": False}}})
    given = {"baseline": None, "model": None, "donor_model": None, "model_factory": None, "workers": 1}
    job = Commission(config, bundles, **given, html=False, strict=False).prepare(Places(tmp_path / "out"))
    task = Task("one", "run 1", bundles / "one", tmp_path / "staged.json", tmp_path / "result.json")
    for _ in range(2):  # after a kill it is told again
        job.poisoned(task, "ended its worker 2 times: killed by SIGKILL")
    found = Ledger(tmp_path / "results" / LEDGER_FILE).statistics()
    assert (found.runs, found.refused, found.errors) == (1, 1, {"WorkerError": 1})


@pytest.mark.parametrize("named", [True, False])
def test_the_model_is_loaded_once(bundles, fitted, tmp_path, monkeypatch, named):
    """Given by the operator, or named by every bundle."""
    shutil.copytree(bundles.parent / "model", bundles / "model")
    loads = []
    load = models.load_model
    monkeypatch.setattr(models, "load_model", lambda *given, **more: loads.append(given) or load(*given, **more))
    monkeypatch.setattr(
        "model_forensics.pipeline.analysis.Analysis._search",
        lambda *_: (_ for _ in ()).throw(RuntimeError("not searched")),
    )
    model = str(bundles / "model") if named else None
    setup = AnalystSetup(Config(), fitted, None, model, None, None, html=False, strict=False)
    analyst = PipelineAnalyst(setup)
    for name in ("one", "zwei ä", "one"):
        with pytest.raises(RuntimeError, match="not searched"):
            analyst(Task(name, name, bundles / name, tmp_path / "staged.json", tmp_path / "result.json"))
    assert len(loads) == 1
