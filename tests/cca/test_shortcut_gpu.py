"""Rows that start in the middle of a model on a GPU equal plain rows there."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model_forensics.cca.batched import BatchedRunner
from model_forensics.cca.jobs import Job, relative_error
from model_forensics.models import Model
from tests.cca.families import FAMILIES, make
from tests.cca.random_rows import calls_of, random_jobs, run_all

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("side", [None, "left"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", FAMILIES)
def test_rows_from_the_middle_equal_plain_rows_on_a_gpu(planting, family, dtype, side):
    model = Model.wrap(make(family, "sdpa", dtype).to("cuda"))
    calls, recording = calls_of(planting, model, side)
    runner = BatchedRunner(model, calls, -1, 16)
    jobs = random_jobs(model, recording, 24)
    results = run_all(runner, jobs)
    assert runner.reason is None, runner.reason
    effects = []
    for job, logits in zip(jobs, results, strict=True):
        error = relative_error(logits, runner.plain.run(job))
        assert error <= runner.plain.allowed(job, error, 16)
        effects.append(relative_error(logits, runner.plain.run(Job(0, job.row, {}))))
    assert np.median(effects) > 0.1


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen3"])
def test_a_model_on_two_devices_runs_from_its_middle(planting, family):
    """As `device_map` splits one: each block runs where its weights are, and takes its inputs there."""
    hooks = pytest.importorskip("accelerate.hooks")
    module = make(family, "sdpa")
    body = module.transformer if family == "gpt2" else module.model
    for number, block in enumerate(body.h if family == "gpt2" else body.layers):
        device = "cuda" if number == 1 else "cpu"
        hooks.add_hook_to_module(block.to(device), hooks.AlignDevicesHook(torch.device(device)))
    for part in (body.ln_f if family == "gpt2" else body.norm, module.lm_head):
        hooks.add_hook_to_module(part, hooks.AlignDevicesHook(torch.device("cpu")))
    model = Model.wrap(module)
    calls, recording = calls_of(planting, model, "left")
    runner = BatchedRunner(model, calls, -1, 16)
    jobs = random_jobs(model, recording, 24)
    results = run_all(runner, jobs)
    assert runner.reason is None, runner.reason
    for job, logits in zip(jobs, results, strict=True):
        error = relative_error(logits, runner.plain.run(job))
        assert error <= runner.plain.allowed(job, error, 16)
