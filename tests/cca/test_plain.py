"""Plain rows are the yardstick, and a faster run may be off by twice what they differ from themselves, no more."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model_forensics.cca.batched import BatchedRunner
from model_forensics.cca.calls import Call, Calls
from model_forensics.cca.executor import Executor
from model_forensics.cca.jobs import Job, Replacement, own_tolerance
from model_forensics.cca.plain import PlainRuns, unpadded
from model_forensics.cca.pool import Candidate, Sources
from model_forensics.cca.replay import Case
from model_forensics.errors import ModelError
from model_forensics.failure import Failure
from model_forensics.models import Model
from model_forensics.types import Intervention
from tests.cca.families import make


class Coarse(torch.nn.Module):
    """Logits that depend on the size of the batch, as rounding does, and perhaps on the rows beside them.

    16-bit matrix products of some CPUs give the same bits whatever their size: so a real model would test nothing.
    """

    def __init__(self, dtype: torch.dtype, rounding: float, mixing: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = torch.nn.Linear(4, 4, dtype=dtype), torch.nn.Linear(4, 3, dtype=dtype)
        self.rounding, self.mixing = rounding, mixing

    def forward(self, features):
        logits = self.second(self.first(features)).double()
        own = logits + self.mixing * (logits - logits.mean(dim=0, keepdim=True)).sign() * logits.abs().max()
        return own * (1 + self.rounding * (features.shape[0] > 1))


def executor_of(planting, module):
    model = Model.wrap(module)
    calls = [{"features": np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)}]
    incident = planting.record(model, calls, name="inc", failure=Failure.label(wrong=[0]), sites=[])
    cases = [Case(i, f"g{i}", Failure.label(wrong=[0]), np.zeros(3), 1.0) for i in range(4)]
    pool = [Candidate(model.sites.get("first"), Intervention(site="first", kind="zero"), 1.0)]
    runner = BatchedRunner(model, Calls(incident, "cpu"), -1, 64)
    return Executor(runner, Sources(None, None, {"first": 4}), pool, cases, seed=0)


UNITS = {torch.float32: 5e-6, torch.float16: 2.0**-10, torch.bfloat16: 2.0**-7}


@pytest.mark.parametrize("dtype", UNITS)
def test_what_counts_as_equal_without_another_look(dtype):
    assert own_tolerance(dtype) == UNITS[dtype]
    assert own_tolerance(None) == 5e-6


@pytest.mark.parametrize("dtype", UNITS)
def test_a_model_coarser_than_its_type_is_held_to_its_own_arithmetic(planting, dtype):
    """What the size of a batch alone changes is no fault of the batched run, however much it is."""
    executor = executor_of(planting, Coarse(dtype, rounding=5 * UNITS[dtype]))
    executor.score_many([(), (0,)], range(4))
    assert executor.worst_error == pytest.approx(5 * UNITS[dtype], rel=1e-3)


@pytest.mark.parametrize("dtype", UNITS)
@pytest.mark.parametrize("rounding", [0.0, 1.0])
def test_rows_that_influence_each_other_by_more_than_that_are_caught(planting, dtype, rounding):
    """Ten units, where the model differs from itself by none or by one."""
    module = Coarse(dtype, rounding=rounding * UNITS[dtype], mixing=10 * UNITS[dtype])
    with pytest.raises(ModelError, match="differs"):
        executor_of(planting, module).score((), range(4))


def test_a_small_influence_within_a_unit_is_rounding(planting):
    executor = executor_of(planting, Coarse(torch.bfloat16, rounding=0.0, mixing=0.2 * UNITS[torch.bfloat16]))
    executor.score((), range(4))
    assert 0 < executor.worst_error <= UNITS[torch.bfloat16]


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_own_difference_is_of_the_padded_row_against_the_row_alone(planting, side):
    """A model that computes something else beside padding differs from itself by that much."""
    module = make("llama")
    inner = module.lm_head.forward
    tokens = 8
    module.lm_head.forward = lambda x: inner(x) * (1 + 1e-3 * (x.shape[1] == tokens))
    model = Model.wrap(module)
    mask = np.ones((2, tokens), np.int64)
    mask[1, slice(0, 3) if side == "left" else slice(-3, None)] = 0
    call = {"input_ids": np.arange(1, 17).reshape(2, tokens), "attention_mask": mask}
    recording = planting.record(model, [call], name="inc", failure=Failure.token(wrong=[1]), sites=[])
    plain = PlainRuns(model, Calls(recording, "cpu"), -1)
    for row, padded in ((0, False), (1, side == "right")):  # without padding on the left, tokens could move
        allowed = plain.allowed(Job(0, row, {}), 1.0, 2)
        assert allowed == pytest.approx(2e-3, rel=0.01) if padded else allowed < 1e-5


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("factor", "units"), [(1.5, 3), (20, 8)])
def test_what_more_padding_does_to_a_16_bit_model_is_its_own_difference(planting, masked, factor, units):
    """A model that is coarser at every length but the recorded one, whatever the batch. More than 8 units are no
    rounding."""
    unit = UNITS[torch.float16]
    module = make("llama", "sdpa", torch.float16)
    inner = module.lm_head.forward
    module.lm_head.forward = lambda x: inner(x).double() * (1 + factor * unit * (x.shape[1] > 8))
    model = Model.wrap(module)
    call = {"input_ids": np.arange(1, 17).reshape(2, 8)}
    if masked:
        call["attention_mask"] = np.ones((2, 8), np.int64)
    recording = planting.record(model, [call], name="inc", failure=Failure.token(wrong=[1]), sites=[])
    plain = PlainRuns(model, Calls(recording, "cpu"), -1)
    tap = model.sites.get("L1.mlp")
    job = Job(0, 0, {tap: Replacement(torch.ones(8, tap.features, dtype=torch.float16))})
    assert plain.allowed(job, 1.0, 2) == pytest.approx(units * unit, rel=0.4)
    before = plain.rows_run
    plain.allowed(job, unit, 2)
    assert plain.rows_run == before, "what is within a unit needs no other look"


def test_padding_excuses_nothing_in_float32(planting):
    module = make("llama")
    inner = module.lm_head.forward
    module.lm_head.forward = lambda x: inner(x) * (1 + 1e-3 * (x.shape[1] > 8))
    model = Model.wrap(module)
    recording = planting.record(
        model, [{"input_ids": np.arange(1, 9)[None]}], name="inc", failure=Failure.token(wrong=[1]), sites=[]
    )
    assert PlainRuns(model, Calls(recording, "cpu"), -1).allowed(Job(0, 0, {}), 1.0, 2) < 1e-5


def test_nan_that_only_padding_brings_excuses_no_difference(planting):
    """Alone, without padding, the row is finite; as recorded it is not. That is no rounding, and allows nothing."""
    module = make("llama")
    inner = module.lm_head.forward
    module.lm_head.forward = lambda x: inner(x) * (float("nan") if x.shape[1] == 8 else 1.0)
    model = Model.wrap(module)
    mask = np.ones((2, 8), np.int64)
    mask[1, -3:] = 0
    call = {"input_ids": np.arange(1, 17).reshape(2, 8), "attention_mask": mask}
    recording = planting.record(model, [call], name="inc", failure=Failure.nonfinite(), sites=[])
    plain = PlainRuns(model, Calls(recording, "cpu"), -1)
    assert plain.allowed(Job(0, 1, {}), float("inf"), 2) == 5e-6


def test_only_the_padding_behind_a_row_is_left_out():
    mask = torch.tensor([[0, 1, 1, 0, 0]], dtype=torch.bool)
    inputs = {"input_ids": torch.arange(5)[None], "attention_mask": mask.long(), "cache_position": torch.arange(5)}
    cut = unpadded(Call(inputs, mask, 1))
    assert {name: value.tolist() for name, value in cut.inputs.items()} == {
        "input_ids": [[0, 1, 2]],
        "attention_mask": [[0, 1, 1]],
        "cache_position": [0, 1, 2],
    }
    assert cut.mask is not None
    assert cut.mask.tolist() == [[False, True, True]]
    for other in (Call({**inputs, "pixels": torch.zeros(1, 5)}, mask, 1), Call({"x": torch.zeros(1, 5)}, None, 1)):
        assert unpadded(other) is other, "what belongs to the tokens of other inputs is not known"
