"""What is still to be done, without opening what is finished."""

from __future__ import annotations

import shutil

import pytest

from model_forensics.batch import incidents
from model_forensics.batch.incidents import make_plan, stamp_of
from model_forensics.batch.ledger import Ledger
from model_forensics.bundle import find_bundle_names, find_bundles, load_bundle
from model_forensics.demo import data_directory
from model_forensics.types import IncidentFinding
from tests.batch.toy import make_bundles


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path / "batch.sqlite") as ledger:
        yield ledger


def finding(**values) -> IncidentFinding:
    found = {"bundle_id": "b", "content_digest": "sha256:0", "verdict": "cause_found", "seconds": 1.0, **values}
    return IncidentFinding(**{**dict.fromkeys(IncidentFinding.model_fields), **found})


def finish(ledger, path, state="done", digest="sha256:0"):
    ledger.claim(path.name, stamp_of(path), "run", 0, 0)
    if state in ("refused", "poisoned"):
        ledger.fail(path.name, state, "it is odd", 0)
    else:
        ledger.finish(path.name, finding(content_digest=digest, verdict="cause_found" if state == "done" else None))


@pytest.mark.parametrize("state", ["done", "benign", "refused", "poisoned"])
def test_finished_bundles_are_not_opened(tmp_path, ledger, monkeypatch, state):
    make_bundles(tmp_path, **{f"i{number:03}": "done" for number in range(30)})
    for path in find_bundles(tmp_path):
        finish(ledger, path, state)
    make_bundles(tmp_path, new="done")

    def refuse(path):
        raise AssertionError(f"{path} was opened")

    monkeypatch.setattr(incidents, "manifest_digest", refuse)
    monkeypatch.setattr("builtins.open", refuse)
    plan = make_plan(*find_bundle_names(tmp_path), ledger, retry=False)
    assert [incident.name for incident in plan.waiting] == ["new"]
    assert (plan.suspects, plan.moved, plan.total) == ([], [], 31)


def test_order(tmp_path, ledger):
    make_bundles(tmp_path, interrupted="done", deadly="done", new="done", refused="done")
    ledger.claim("interrupted", stamp_of(tmp_path / "interrupted"), "run", 0, 0)
    ledger.claim("deadly", stamp_of(tmp_path / "deadly"), "run", 2, 1)
    finish(ledger, tmp_path / "refused", "refused")
    plan = make_plan(*find_bundle_names(tmp_path), ledger, retry=False)
    assert [one.name for one in plan.waiting] == ["new", "interrupted"]
    assert [(one.name, one.attempt, one.deaths) for one in plan.suspects] == [("deadly", 2, 1)]
    again = make_plan(*find_bundle_names(tmp_path), ledger, retry=True).waiting
    assert [(one.name, one.attempt) for one in again] == [("new", 0), ("refused", 1), ("interrupted", 0)]


def test_a_copy_is_no_change_and_other_content_is(tmp_path, ledger):
    with data_directory() as data:
        shutil.copytree(data / "incident", tmp_path / "a")
    digest = load_bundle(tmp_path / "a").content_digest
    finish(ledger, tmp_path / "a", digest=digest)
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    shutil.rmtree(tmp_path / "a")
    (tmp_path / "copy").rename(tmp_path / "a")
    plan = make_plan(tmp_path, ["a"], ledger, retry=False)
    assert (plan.waiting, plan.moved) == ([], [("a", stamp_of(tmp_path / "a"))])
    manifest = tmp_path / "a" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"created_at": "20', '"created_at": "19', 1))
    assert [one.name for one in make_plan(tmp_path, ["a"], ledger, retry=False).waiting] == ["a"]
    manifest.write_text("{")
    assert [one.name for one in make_plan(tmp_path, ["a"], ledger, retry=False).waiting] == ["a"]
    manifest.unlink()
    assert [one.name for one in make_plan(tmp_path, ["a"], ledger, retry=False).waiting] == ["a"]
