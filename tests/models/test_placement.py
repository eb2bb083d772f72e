"""Models whose weights accelerate keeps elsewhere take inputs, have a digest and run from their middle like others."""

from __future__ import annotations

import pytest
import torch

from model_forensics.cca.batched import BatchedRunner
from model_forensics.cca.jobs import relative_error
from model_forensics.errors import ModelError
from model_forensics.models import Model
from model_forensics.models.placement import input_device, offloaded
from tests.cca.conftest import record
from tests.cca.families import make
from tests.cca.random_rows import calls_of, random_jobs, run_all

accelerate = pytest.importorskip("accelerate")


class Planting:
    record = staticmethod(record)


def hooked(module, _folder):
    """As `device_map` leaves a model that fits: every module moves its inputs."""
    return accelerate.dispatch_model(module, {"": "cpu"}, force_hooks=True)


def offloaded_to_cpu(module, _folder):
    return accelerate.cpu_offload(module, execution_device=torch.device("cpu"))


def offloaded_to_disk(module, folder):
    accelerate.disk_offload(module, str(folder), execution_device=torch.device("cpu"))
    return module


def split(module, folder):
    """Some blocks stay, others are on disk."""
    body, blocks = ("transformer", "h") if hasattr(module, "transformer") else ("model", "layers")
    beside = {name for name, _ in module.named_children()} - {body}
    beside |= {f"{body}.{name}" for name, _ in module.get_submodule(body).named_children()} - {f"{body}.{blocks}"}
    places = dict.fromkeys(beside, "cpu") | {f"{body}.{blocks}.{n}": "disk" if n else "cpu" for n in range(3)}
    return accelerate.dispatch_model(module, places, main_device="cpu", offload_dir=str(folder), force_hooks=True)


PLACEMENTS = (hooked, offloaded_to_cpu, offloaded_to_disk, split)


@pytest.mark.parametrize("place", PLACEMENTS)
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_placed_model_is_the_same_model(family, place, tmp_path):
    plain, model = Model(make(family)), Model(place(make(family), tmp_path))
    elsewhere = any(parameter.is_meta for parameter in model.module.parameters())
    assert elsewhere == (place is not hooked)
    assert model.device == torch.device("cpu")
    assert model.reference.tensor_digests == plain.reference.tensor_digests
    calls, recording = calls_of(Planting, model, "left")
    runner = BatchedRunner(model, calls, -1, 16)
    jobs = random_jobs(model, recording, 8)
    results = run_all(runner, jobs)
    assert runner.reason is None, runner.reason
    expected = BatchedRunner(plain, calls, -1, 16)
    for ours, theirs, logits in zip(jobs, random_jobs(plain, recording, 8), results, strict=True):
        assert relative_error(logits, runner.plain.run(ours)) <= 5e-6
        assert relative_error(logits, expected.plain.run(theirs)) <= 5e-6


def test_weights_that_nothing_fetches_are_not_loaded():
    module = make("llama").to("meta")
    assert input_device(module).type == "meta"
    assert offloaded(module, "lm_head.weight") is None
    with pytest.raises(ModelError, match="not loaded"):
        _ = Model(module).reference


def test_a_module_without_weights_takes_inputs_on_the_cpu():
    assert input_device(torch.nn.ReLU()) == torch.device("cpu")
