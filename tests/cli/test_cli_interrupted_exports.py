"""Ctrl-C at every moment of `validate-fix` with exports: what is exported is there, whole, or what was there before."""

from __future__ import annotations

import importlib.util
import json
import shutil
import tempfile
from pathlib import Path

import pytest
import torch

from model_forensics import cca
from model_forensics.export import hook
from model_forensics.models import load_model
from model_forensics.pipeline import sources


@pytest.fixture
def measured_once(monkeypatch):
    """What takes long and changes nothing: what is read, the proof and the trial of the hook are there after a first
    run. So a model that Ctrl-C left edited would be seen at the next moment."""
    steps = {sources: ("open_recording", "open_baseline", "open_model"), cca: ("validate_fix", "fixed_runs")}
    for module, names in {**steps, hook: ("_asked",)}.items():
        for name in names:
            monkeypatch.setattr(module, name, _once(getattr(module, name)))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the model is so small that more only wait for one another
    yield
    torch.set_num_threads(threads)


def _once(measure):
    kept = []

    def measured(*arguments, **named):
        if not kept:
            kept.append(measure(*arguments, **named))
        return kept[0]

    return measured


@pytest.fixture
def scratch(tmp_path, monkeypatch) -> Path:
    """Where temporary directories are made."""
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    return tmp_path / "scratch"


def contents(place: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in place.iterdir()}


def loads(path: Path) -> bool:
    """Whether a hook is one, with the values that belong to it."""
    spec = importlib.util.spec_from_file_location("exported", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return callable(module.apply)


@pytest.mark.usefixtures("measured_once")
def test_a_hook_comes_with_its_values(each_moment, run, analyzed, data, scratch, tmp_path):
    arguments = ["validate-fix", analyzed[0], "--model", data / "model", "--export-hook"]
    assert run(*arguments, tmp_path / "first.py").exit_code == 0  # all is measured now
    place = tmp_path / "fix"

    def try_all(before: dict[str, bytes], *options: str) -> None:
        ended = []

        def prepare(_: int) -> list:
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            for name, content in before.items():
                (place / name).write_bytes(content)
            return [*arguments, place / "fix.py", *options]

        def check(_: int) -> None:
            found = contents(place)
            ended.append(found != before)
            if ended[-1]:
                assert set(found) == {"fix.py", "fix.bin"}
                assert loads(place / "fix.py")
            assert not list(scratch.iterdir())

        assert each_moment(prepare, check) >= 12
        assert set(ended) == {False, True}

    try_all({})
    try_all({"fix.py": b"# an earlier export", "fix.bin": b"earlier values"}, "--force")


@pytest.mark.usefixtures("measured_once", "scratch")
def test_weights(each_moment, run, analyzed, data, tmp_path):
    arguments = ["validate-fix", analyzed[0], "--model", data / "model", "--workaround", "2", "--export-weights"]
    assert run(*arguments, tmp_path / "first").exit_code == 0  # all is measured now
    place = tmp_path / "exported" / "weights"

    def try_all(before: dict[str, str] | None, *options: str) -> None:
        ended = []

        def prepare(_: int) -> list:
            shutil.rmtree(place.parent, ignore_errors=True)
            if before is not None:
                place.mkdir(parents=True)
                (place / "fix.json").write_text(json.dumps(before))
            return [*arguments, place, *options]

        def check(_: int) -> None:
            found = [path.name for path in place.parent.iterdir()] if place.parent.exists() else []
            assert found in (["weights"], [])
            record = json.loads((place / "fix.json").read_text()) if found else None
            ended.append(record != before)
            if ended[-1]:
                assert load_model(place).reference.weights_digest == record["weights_digest"]

        assert each_moment(prepare, check) >= 10
        assert set(ended) == {False, True}

    try_all(None)
    try_all({"about": "an earlier export"}, "--force")
