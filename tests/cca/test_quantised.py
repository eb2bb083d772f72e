"""Quantised linear layers run as they are, and what was quantised is part of a model's identity."""

from __future__ import annotations

import copy

import pytest
import torch

from model_forensics.cca import find_fix_set
from model_forensics.cca.batched import BatchedRunner
from model_forensics.cca.jobs import relative_error
from model_forensics.config import CausalConfig
from model_forensics.errors import ModelError
from model_forensics.models import Model
from tests.cca.families import make
from tests.cca.random_rows import calls_of, random_jobs, run_all


class EightBit(torch.nn.Module):
    """A linear layer whose weights are whole numbers: as those of quantised models, no parameter."""

    def __init__(self, linear: torch.nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        scale = linear.weight.detach().abs().amax(dim=1, keepdim=True) / 127
        self.register_buffer("scale", scale)
        self.register_buffer("weight", (linear.weight.detach() / scale).round().to(torch.int8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(x, self.weight.to(x.dtype) * self.scale)


def by_hand(module):
    for layer in module.model.layers:
        for part in (layer.self_attn, layer.mlp):
            for name, linear in list(part.named_children()):
                if isinstance(linear, torch.nn.Linear):
                    setattr(part, name, EightBit(linear))
    return module


def torchao_weights(module):
    quantization = pytest.importorskip("torchao.quantization")
    quantization.quantize_(module, quantization.Int8WeightOnlyConfig())
    return module


def dynamic(module):
    """Of every tensor that enters a layer the scale is taken anew, over all rows and tokens."""
    return torch.ao.quantization.quantize_dynamic(module, {torch.nn.Linear}, dtype=torch.qint8)


def planted(planting, quantise):
    """The quantised model, the same with a damaged MLP, and an incident of that one."""
    intact = make("llama")
    broken = copy.deepcopy(intact)
    weight = broken.model.layers[1].mlp.down_proj.weight
    with torch.no_grad():
        weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)) * weight.std() * 3)
    models = [Model.wrap(quantise(module)) for module in (intact, broken)]
    incident, _ = planting.compared(*models, planting.batches(9, side="left"))
    return *models, incident


@pytest.mark.parametrize("quantise", [by_hand, torchao_weights])
def test_rows_of_quantised_weights_from_the_middle_equal_plain_rows(planting, quantise):
    model = Model.wrap(quantise(make("llama")))
    calls, recording = calls_of(planting, model, "left")
    runner = BatchedRunner(model, calls, -1, 16)
    jobs = random_jobs(model, recording, 12)
    results = run_all(runner, jobs)
    assert runner.reason is None, runner.reason
    for job, logits in zip(jobs, results, strict=True):
        assert relative_error(logits, runner.plain.run(job)) <= 5e-6


@pytest.mark.parametrize("quantise", [by_hand, torchao_weights])
def test_a_model_with_quantised_weights_is_analysed(planting, quantise):
    intact, broken, incident = planted(planting, quantise)
    before = broken.reference.weights_digest
    config = CausalConfig(intervention_types=("patch",))
    result = find_fix_set(broken, incident, config=config, donor_model=intact)
    assert str(result.fix_set) == "patch L1.mlp"
    assert result.fix_set.label == "cause"
    assert result.spent.execution.from_middle
    assert result.spent.self_check_max_error <= 5e-6
    broken.forget_digests()
    assert broken.reference.weights_digest == before, "weights stay as they are"


def test_quantised_activations_tie_rows_together_and_are_analysed_row_by_row(planting):
    """A row's values depend on the rows beside it, so that only a row alone is a measurement: the error says so."""
    intact, broken, incident = planted(planting, dynamic)
    config = CausalConfig(intervention_types=("patch",))
    with pytest.raises(ModelError, match="max_batch_rows to 1"):
        find_fix_set(broken, incident, config=config, donor_model=intact)
    alone = config.model_copy(update={"max_batch_rows": 1})
    result = find_fix_set(broken, incident, config=alone, donor_model=intact)
    assert str(result.fix_set) == "patch L1.mlp"
    assert "departs from the whole run" in result.spent.execution.reason
    assert result.spent.self_check_max_error == 0.0


@pytest.mark.parametrize("quantise", [by_hand, torchao_weights, dynamic])
def test_the_identity_of_a_model_is_that_of_its_quantised_weights(planting, quantise):
    intact, broken, _ = planted(planting, quantise)
    again, *_ = planted(planting, quantise)
    assert intact.reference.weights_digest == again.reference.weights_digest
    ours, theirs = intact.reference.tensor_digests, broken.reference.tensor_digests
    changed = {name for name in ours if ours[name] != theirs[name]}
    assert changed
    assert all(name.startswith("model.layers.1.mlp.down_proj.") for name in changed)
