"""What is still to be done, without opening what is finished."""

from __future__ import annotations

import shutil

import pytest

from model_forensics.batch import incidents
from model_forensics.batch.incidents import make_plan, stamp_of
from model_forensics.batch.ledger import Row
from model_forensics.bundle import find_bundle_names, find_bundles, load_bundle
from model_forensics.demo import data_directory
from tests.batch.toy import make_bundles


def finished(paths, state="done", digest="sha256:0"):
    return {path.name: Row(state, 0, 0, stamp_of(path), digest) for path in paths}


@pytest.mark.parametrize("state", ["done", "benign", "refused", "poisoned"])
def test_finished_bundles_are_not_opened(tmp_path, monkeypatch, state):
    make_bundles(tmp_path, **{f"i{number:03}": "done" for number in range(300)})
    paths = find_bundles(tmp_path)
    rows = finished(paths, state)
    make_bundles(tmp_path, new="done")

    def refuse(path):
        raise AssertionError(f"{path} was opened")

    monkeypatch.setattr(incidents, "manifest_digest", refuse)
    monkeypatch.setattr("builtins.open", refuse)
    plan = make_plan(*find_bundle_names(tmp_path), rows, retry=False)
    assert [incident.name for incident in plan.waiting] == ["new"]
    assert (plan.suspects, plan.moved, plan.total) == ([], [], 301)


def test_order(tmp_path):
    make_bundles(tmp_path, interrupted="done", deadly="done", new="done", refused="done")
    rows = {
        "interrupted": Row("running", 0, 0, stamp_of(tmp_path / "interrupted"), None),
        "deadly": Row("running", 2, 1, stamp_of(tmp_path / "deadly"), None),
        "refused": Row("refused", 0, 0, stamp_of(tmp_path / "refused"), None),
    }
    plan = make_plan(*find_bundle_names(tmp_path), rows, retry=False)
    assert [one.name for one in plan.waiting] == ["new", "interrupted"]
    assert [(one.name, one.attempt, one.deaths) for one in plan.suspects] == [("deadly", 2, 1)]
    again = make_plan(*find_bundle_names(tmp_path), rows, retry=True).waiting
    assert [(one.name, one.attempt) for one in again] == [("new", 0), ("refused", 1), ("interrupted", 0)]


def test_a_copy_is_no_change_and_other_content_is(tmp_path):
    with data_directory() as data:
        shutil.copytree(data / "incident", tmp_path / "a")
    digest = load_bundle(tmp_path / "a").content_digest
    rows = finished([tmp_path / "a"], digest=digest)
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    shutil.rmtree(tmp_path / "a")
    (tmp_path / "copy").rename(tmp_path / "a")
    plan = make_plan(tmp_path, ["a"], rows, retry=False)
    assert (plan.waiting, plan.moved) == ([], [("a", stamp_of(tmp_path / "a"))])
    manifest = tmp_path / "a" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"created_at": "20', '"created_at": "19', 1))
    assert [one.name for one in make_plan(tmp_path, ["a"], rows, retry=False).waiting] == ["a"]
    manifest.write_text("{")
    assert [one.name for one in make_plan(tmp_path, ["a"], rows, retry=False).waiting] == ["a"]
    manifest.unlink()
    assert [one.name for one in make_plan(tmp_path, ["a"], rows, retry=False).waiting] == ["a"]
