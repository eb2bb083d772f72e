"""Near ties that noise decides have no cause; damage of any size that matters has."""

from __future__ import annotations

import copy

import pytest
import torch

from model_forensics.cca import find_fix_set
from model_forensics.cca.donors import PatchDonor
from model_forensics.cca.material import MATERIAL_CHANGE, largest_change
from model_forensics.cca.replay import Case, Run
from model_forensics.config import CausalConfig
from model_forensics.failure import Failure
from model_forensics.models import Model
from model_forensics.types import Donor


def donor_of(rows, *, same_input=True) -> PatchDonor:
    return PatchDonor(Donor(kind="reference_model", source=None, same_input=same_input), (None,), {"x": (rows,)})


def change(ours, theirs, **more) -> float | None:
    case = Case(0, "g", Failure.token(), None, 1.0)
    return largest_change(Run((), {"x": (torch.tensor(ours),)}), donor_of(torch.tensor(theirs), **more), [case])


def test_the_token_that_differs_most_counts_against_a_usual_row():
    rows = [[3.0, 4.0]] * 99
    assert change([*rows, [3.0, 9.0]], [*rows, [3.0, 4.0]]) == pytest.approx(1.0)
    assert change(rows, rows) == 0.0
    assert change([[1.0, float("nan")]], [[1.0, 1.0]]) == float("inf")
    assert change([[1.0]], [[0.0]]) == float("inf")
    assert change([[0.0]], [[0.0]]) == 0.0
    assert change([[1.0], [2.0], [9.0]], [[1.0], [2.0]]) == 0.0, "as far as both ran"


def test_nothing_is_known_without_a_run_on_the_same_input():
    assert change([[1.0]], [[2.0]], same_input=False) is None
    assert largest_change(Run((), {}), None, []) is None


def test_noise_in_all_weights_is_no_cause(plant, planting):
    """Rounding flips what is nearly a tie; each component's healthy activations flip it back."""
    intact = plant(1, "mlp").intact
    rounded = copy.deepcopy(intact.module)
    with torch.no_grad():
        for parameter in rounded.parameters():
            parameter.copy_(parameter.to(torch.bfloat16))
    calls = planting.batches(8)
    healthy = planting.record(intact, calls, name="healthy")
    noisy = planting.record(Model.wrap(rounded), calls, name="noisy", failure=Failure.divergence(1e-9))
    found = find_fix_set(Model.wrap(rounded), noisy, config=CausalConfig(), donor_model=intact, benign=[healthy])
    assert found.replay.failing > 0
    assert found.fix_set is None or found.fix_set.label == "workaround"
    assert any("noise decides" in warning for warning in found.warnings)


def test_damage_is_far_above_noise(plant):
    planted = plant(1, "mlp")
    found = find_fix_set(planted.broken, planted.incident, config=CausalConfig(), donor_model=planted.intact)
    assert found.fix_set is not None
    assert found.fix_set.label == "cause"
    assert not any("noise" in warning for warning in found.warnings)
    assert 0 < MATERIAL_CHANGE < 1
