"""The self-test finds what is broken, says how to cure it, and leaves nothing behind."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from model_forensics import ops
from model_forensics.cli.main import main
from model_forensics.selftest import operations


def run(*arguments):
    return CliRunner().invoke(main, ["test", *(str(argument) for argument in arguments)])


def test_every_operation_has_a_case():
    assert operations.CASES.keys() == ops.backends().keys()


@pytest.mark.parametrize("operation", operations.CASES)
def test_a_backend_that_is_wrong_is_found(operation, monkeypatch):
    case = operations.CASES[operation]

    def wrong(backend, up):
        results = list(case(backend, up))
        if backend == operations.REFERENCE:
            return results
        first = operations._on_host(results[0]).copy()
        first.reshape(-1)[0] += 1
        return [first, *results[1:]]

    assert operations.agrees(operation, "numba")
    monkeypatch.setitem(operations.CASES, operation, wrong)
    assert not operations.agrees(operation, "numba")


def test_it_works_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run("--format", "json")
    assert done.exit_code == 0, done.output
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert checks["backend numba"]["status"] == "ok"
    assert checks["analysis"]["status"] == "ok"
    assert checks["model"]["status"] == "skipped"
    assert list(tmp_path.iterdir()) == []


def test_what_is_broken_is_said_with_its_cure(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "c.yaml").write_text(f"output_dir: {tmp_path}/file/results\n")
    monkeypatch.setattr("model_forensics.selftest.run.agrees", lambda operation, _: operation != "histogram")
    done = run("--config", tmp_path / "c.yaml", "--model", tmp_path / "no model")
    assert done.exit_code == 1, done.output
    broken = [line for line in done.stdout.splitlines() if line.startswith("BROKEN")]
    assert any("histogram differs from the reference" in line for line in broken)
    assert any("writing output_dir" in line and "is not a directory" in line for line in broken)
    assert any("no model" in line for line in broken)
    assert "name another place in the configuration" in done.stdout
    assert "ok      analysis" in done.stdout  # one broken thing hides no other
