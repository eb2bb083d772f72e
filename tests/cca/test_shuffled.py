"""The search repeated with donors dealt out at random: whether it matters whose activations a set takes."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from carriers import CLASSES, world

from model_forensics.cca import find_fix_set
from model_forensics.cca.shuffled import REPEATS
from model_forensics.config import CausalConfig
from model_forensics.failure import Failure
from model_forensics.models import Model
from model_forensics.types import Shuffled

FULL = CausalConfig(intervention_types=("patch",), evidence="full")


class Offset(torch.nn.Module):
    """Adds the same to every input, and that is all that can be damaged: any healthy run has the right activation."""

    def __init__(self) -> None:
        super().__init__()
        self.offset, self.readout = torch.nn.Linear(CLASSES, CLASSES), torch.nn.Linear(CLASSES, CLASSES, bias=False)
        with torch.no_grad():
            self.offset.weight.zero_()
            self.offset.bias.zero_()
            self.readout.weight.copy_(torch.eye(CLASSES))

    def forward(self, features):
        return self.readout(features + self.offset(features))


def offset_world(planting):
    intact = Offset().eval()
    broken = copy.deepcopy(intact)
    with torch.no_grad():
        broken.offset.bias[2] = 3.0
    calls = [{"features": np.eye(CLASSES, dtype=np.float32)[[0, 1, 3, 4] * 3]}]
    healthy = planting.record(intact, calls, name="ok")
    incident = planting.with_answers(planting.record(broken, calls, name="inc", failure=Failure.label()), healthy)
    return Model.wrap(intact), Model.wrap(broken), incident


def test_what_each_input_needs_for_itself_is_not_found_by_chance(planting):
    intact, broken, incident, _ = world(planting, "first")
    fix = find_fix_set(broken, incident, config=FULL, donor_model=intact).fix_set
    assert str(fix) == "patch first"
    assert fix.shuffled == Shuffled(repeats=REPEATS, as_good=0, p_value=0.05)
    again = find_fix_set(broken, incident, config=FULL, donor_model=intact).fix_set
    assert again == fix
    standard = FULL.model_copy(update={"evidence": "standard"})
    assert find_fix_set(broken, incident, config=standard, donor_model=intact).fix_set.shuffled is None


def test_what_any_donor_repairs_is_as_good_with_every_deal(planting):
    intact, broken, incident = offset_world(planting)
    fix = find_fix_set(broken, incident, config=FULL, donor_model=intact).fix_set
    assert str(fix) == "patch offset"
    assert fix.label == "cause"
    assert fix.shuffled == Shuffled(repeats=REPEATS, as_good=REPEATS, p_value=1.0)


@pytest.mark.parametrize("stop", [0, 3, 18])
def test_out_of_time_there_is_no_p_value(planting, monkeypatch, stop):
    intact, broken, incident, _ = world(planting, "first")
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])

    def progress(stage, done, total):
        if (stage, done) == ("shuffled donors", stop):
            now[0] = 100.0

    result = find_fix_set(broken, incident, config=FULL, donor_model=intact, timeout_seconds=50, progress=progress)
    assert result.fix_set.shuffled == Shuffled(repeats=stop, as_good=0, p_value=None)
    assert not result.spent.timed_out
    assert any(f"time ran out after {stop} repeats" in warning for warning in result.warnings)


def refused(result):
    assert result.fix_set is not None
    assert result.fix_set.shuffled is None
    (warning,) = [warning for warning in result.warnings if "not repeated with shuffled donors" in warning]
    return warning


def test_one_group_cannot_be_shuffled(planting):
    intact, broken, incident, _ = world(planting, "first")
    incident.samples[:] = [sample.model_copy(update={"group": "one"}) for sample in incident.samples]
    assert "one group" in refused(find_fix_set(broken, incident, config=FULL, donor_model=intact))


def test_groups_of_other_lengths_cannot_be_shuffled(planting):
    module = planting.tiny_gpt2()
    broken = planting.damaged_copy(module, 1, "mlp", scale=5.0)
    random = np.random.default_rng(0)
    ids = [random.integers(1, planting.VOCABULARY, (1, length)) for length in range(4, 12)]
    calls = [{"input_ids": row, "attention_mask": np.ones_like(row)} for row in ids]
    healthy = planting.record(module, calls, name="ok")
    incident = planting.with_answers(planting.record(broken, calls, name="inc", failure=Failure.token()), healthy)
    result = find_fix_set(Model.wrap(broken), incident, config=FULL, donor_model=Model.wrap(module))
    assert "equally many tokens" in refused(result)


def test_without_a_patch_there_is_nothing_to_shuffle(planting):
    intact, broken, incident = offset_world(planting)
    config = FULL.model_copy(update={"intervention_types": ("zero",)})
    assert "no patch" in refused(find_fix_set(broken, incident, config=config, donor_model=intact))
