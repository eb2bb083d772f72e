"""The incident of `model-forensics demo` is one of the zoo's: its fault, its truth, and what is said about it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("transformers")

from bench.zoo import loading, make, truth
from bench.zoo.kinds import all_kinds
from bench.zoo.networks import NETWORKS
from bench.zoo.plan import entries
from model_forensics.bundle import load_bundle
from model_forensics.demo import Truth, data_directory, task
from model_forensics.demo.make import planted
from model_forensics.failure import Failure
from model_forensics.models import load_model


@pytest.fixture(scope="module")
def data() -> Iterator[Path]:
    with data_directory() as directory:
        yield directory


def test_the_zoo_plants_the_same_fault(data):
    """Bit for bit: `misread-003` has the demo's model, and prompts of its own."""
    entry = next(one for one in entries() if one.name == "misread-003")
    assert entry.network == "lookup"
    healthy = NETWORKS["lookup"].train(0).module
    made = make.plant(all_kinds()["misread"], entry, healthy, healthy)
    shipped = load_model(str(data / "model"), device="cpu").module
    assert not loading.differences(made.module, shipped)
    assert made.planted.how == planted()["how"]


def test_its_truth_is_found_by_running_the_sets(data):
    told = json.loads((data / "truth.json").read_text())
    assert told == planted()
    healthy, module = (load_model(str(data / name), device="cpu").module for name in ("reference", "model"))
    incident = load_bundle(data / "incident")
    prompts = []
    for sample in incident.samples:
        tokens = np.asarray(incident.inputs(sample.call)["input_ids"])[sample.row]
        prompts.append(NETWORKS["lookup"].prompt(task.Prompt(tokens, int(sample.right[0]))))
    with torch.no_grad():
        assert all(make.answer(module, one) != one.right == make.answer(healthy, one) for one in prompts)
    beside = ["L1.mlp", *told["damaged"], "L3.attn"]
    found = truth.repairs(module, healthy, prompts, Failure.token(), beside)
    assert truth.minimal(found) == [tuple(one) for one in told["minimal_fix_sets"]]
    assert Truth.read(data).minimal_fix_sets == (("L2.mlp",),)
