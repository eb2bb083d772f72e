"""One fault on many prompts is one group, and other places are other groups."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
from transformers import GPT2LMHeadModel

from model_forensics import RCAPipeline
from model_forensics.bundle import load_bundle
from model_forensics.config import Config
from model_forensics.demo import data_directory, task
from model_forensics.demo.make import damage, record
from model_forensics.models import Model
from model_forensics.pipeline.signatures import signature_of
from model_forensics.pipeline.triage import groups_of

PLACES = ((2, "mlp"), (1, "attn"), (3, "attn"))


@pytest.fixture(scope="module")
def ranked(tmp_path_factory):
    """Entries of three faults in other places than one another, on five prompts each, and of a healthy model."""
    directory = tmp_path_factory.mktemp("planted")
    generator = np.random.default_rng(3)
    with data_directory() as data:
        reference = GPT2LMHeadModel.from_pretrained(data / "reference").eval()
        for layer, component in PLACES:
            damaged = copy.deepcopy(reference)
            damage(damaged, layer, component)
            for number in range(5):
                place = directory / f"L{layer}.{component}-{number}"
                record(Model.wrap(damaged), place, [task.draw_prompt(generator)], incident=True)
        record(Model.wrap(reference), directory / "healthy", [task.draw_prompt(generator)], incident=True)
        return RCAPipeline().triage(directory, baseline=data / "benign")


def test_faults_are_told_apart_and_prompts_are_not(ranked):
    groups = {}
    for entry in ranked:
        groups.setdefault(Path(entry.path).name.split("-")[0], set()).add(entry.group)
    planted = [groups[f"L{layer}.{component}"] for layer, component in PLACES]
    assert all(len(numbers) == 1 for numbers in planted)
    assert len(set.union(*planted)) == len(PLACES)
    assert sorted(group.count for group in groups_of(ranked))[-3:] == [5, 5, 5]


def test_the_signature_names_the_place(ranked):
    for entry in ranked:
        place = Path(entry.path).name.split("-")[0]
        if place != "healthy":
            assert entry.signature.split(", most at ")[0] == place


def test_without_a_baseline_there_is_no_signature():
    from model_forensics import cf

    with data_directory() as data:
        found = cf.analyze(load_bundle(data / "incident"), None, Config().modules.cf)
    assert signature_of(found.metrics, found.onset) is None
    first = found.metrics[3]
    broken = first.model_copy(update={"integrity": first.integrity.model_copy(update={"nan": 1})})
    metrics = [*found.metrics[:3], broken, *found.metrics[4:]]
    assert signature_of(metrics, None) == f"NaN or Inf from {first.site}"
