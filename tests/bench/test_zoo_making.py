"""How incidents are chosen and run: which fault is taken, which prompts are beside it, and what a crash becomes."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("transformers")

from bench.zoo import make, run, truth, work
from bench.zoo.kind import Kind, Planted, Unplantable
from bench.zoo.network import Prompt
from bench.zoo.plan import entries
from model_forensics.errors import UsageError


def a_kind(**changes) -> Kind:
    return Kind("made_up", "several", ("lookup",), lambda case: Planted("made up"), **changes)


def faults(*minimal):
    """Made faults at a and b, with these minimal fix sets."""
    for sets in minimal:
        repaired = [truth.Repaired(one, 24, 24, 0.0, 1.0) for one in sets]
        yield SimpleNamespace(planted=Planted("made up", ("a", "b")), repaired=repaired)


def test_the_first_fault_that_is_what_its_kind_says_is_taken_or_none(monkeypatch):
    pairs = a_kind(is_one=lambda sites, minimal: minimal == [sites])
    one, other, both = [("a",)], [("b",)], [("a", "b")]

    def plant(*minimal):
        monkeypatch.setattr(make, "_faults", lambda *_: faults(*minimal))
        return truth.minimal(make.plant(pairs, next(entries()), None, None).repaired)

    assert plant(one, both, other) == both
    assert plant(*[one] * (make.CHOSEN_FROM - 1), both) == both
    with pytest.raises(Unplantable, match=f"none of {make.CHOSEN_FROM} faults after"):
        plant(*[one] * make.CHOSEN_FROM, both)
    with pytest.raises(Unplantable, match="none of 2 faults after"):
        plant(one, other)
    monkeypatch.setattr(make, "_faults", lambda *_: iter(()))
    with pytest.raises(Unplantable, match="prompts failed after none"):
        make.plant(pairs, next(entries()), None, None)


def test_healthy_prompts_beside_an_incident_are_of_other_texts():
    def draw(random, count):
        return [Prompt({}, 0, f"text {number}") for number in range(count)]

    others = make._others(draw, np.random.default_rng(0), {"text 0", "text 5"})
    assert len(others) == make.BENIGN
    assert not {"text 0", "text 5"} & {one.text for one in others}
    with pytest.raises(Unplantable, match="only 1 of"):
        make._others(draw, np.random.default_rng(0), {f"text {number}" for number in range(4 * make.BENIGN - 1)})


def test_no_prompts_at_all_fail_in_nothing():
    nothing = make.find_failing(a_kind(), lambda random, count: [], torch.nn.Identity(), torch.nn.Identity(), None)
    assert nothing == ([], 0.0)


@pytest.fixture
def made(tmp_path, monkeypatch):
    entry = next(entries())
    (tmp_path / "incidents" / entry.name).mkdir(parents=True)
    monkeypatch.setattr(run, "rankings", lambda place: {})
    return tmp_path, entry


@pytest.mark.parametrize(
    ("problem", "told"), [(UsageError("not so", cure="So"), "not so"), (KeyError("oh"), "crashed: KeyError('oh')")]
)
def test_a_refusal_or_a_crash_is_an_answer_that_is_scored(made, monkeypatch, problem, told):
    root, entry = made

    def fail(*_, **__):
        raise problem

    monkeypatch.setattr(run.RCAPipeline, "analyze_incident", fail)
    said = work.run(root, entry)
    assert told in said
    assert said.startswith(work.FAILED) == told.startswith("crashed"), "a refusal is an answer, a crash is none"
    written = json.loads((root / "results" / f"{entry.name}.run.json").read_text())
    assert told in written["refused"]
    assert written["commit"] is not None
    again = work.run(root, entry)
    assert again.endswith("there") != told.startswith("crashed"), "a crash is tried again"


def test_what_was_not_made_and_rivals_that_crash_fail_alone(made, monkeypatch):
    root, entry = made
    assert work.run(root, replace(entry, seed=99)).startswith("FAILED")
    monkeypatch.setattr(run.RCAPipeline, "analyze_incident", lambda *_, **__: SimpleNamespace(verdict="no_fix_found"))
    monkeypatch.setattr(run, "rankings", lambda place: 1 / 0)
    told = work.run(root, entry)
    assert told.startswith("FAILED")
    assert "ZeroDivisionError" in told
