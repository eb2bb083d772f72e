"""Exports of a proof that ran on a GPU: written with one copy of each model there, and giving what was proven."""

from __future__ import annotations

import pytest
import torch

from model_forensics import RCAPipeline
from model_forensics.demo import data_directory
from model_forensics.export.memory import off_the_gpu
from model_forensics.models import load_model

pytestmark = pytest.mark.gpu


def test_models_wait_in_the_hosts_memory_and_come_back():
    with data_directory() as data:
        model = load_model(data / "model", device="cuda")
        ids = torch.tensor([[1, 2, 3]], device="cuda")
        before, taken = model.module(input_ids=ids).logits, torch.cuda.memory_allocated()
        weights = sum(tensor.nbytes for tensor in model.module.parameters())
        with off_the_gpu(model, None):
            assert torch.cuda.memory_allocated() <= taken - 0.9 * weights
        assert torch.equal(model.module(input_ids=ids).logits, before)


def test_hook_and_weights_give_what_was_proven(tmp_path):
    causal = {"refine": False, "max_alternatives": 0}
    pipeline = RCAPipeline({"output_dir": tmp_path, "device": "cuda", "modules": {"cca": causal}})
    with data_directory() as data:
        found = pipeline.analyze_incident(data / "incident", data / "benign", donor_model=data / "reference")
        validation = pipeline.validate_fix(
            found, data / "model", export_hook=tmp_path / "fix.py", export_weights=tmp_path / "fixed"
        )
    assert validation.holds
    assert len(validation.exports) == 2
    assert (tmp_path / "fix.py").exists()
    assert (tmp_path / "fixed" / "config.json").exists()
