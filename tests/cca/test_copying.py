"""A set that brings in whatever its donor answered, and what tells a damaged part from one that merely passes it on."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from carriers import CLASSES, world
from hypothesis import given, settings
from hypothesis import strategies as st

from model_forensics.cca import find_fix_set, validate_fix
from model_forensics.cca.copying import CHECKS_PER_CASE, copies
from model_forensics.config import CausalConfig
from model_forensics.failure import Failure
from model_forensics.models import Model
from model_forensics.types import CopyCheck, Intervention

PATCHES = CausalConfig(intervention_types=("patch",))


class Halves(torch.nn.Module):
    """`even` answers for even classes, `odd` for odd ones, and `last` passes their sum on to the readout."""

    def __init__(self) -> None:
        super().__init__()
        self.even, self.odd, self.last, self.readout = (torch.nn.Linear(CLASSES, CLASSES, bias=False) for _ in range(4))
        with torch.no_grad():
            odd = torch.diag(torch.arange(CLASSES) % 2).float()
            self.even.weight.copy_(torch.eye(CLASSES) - odd)
            self.odd.weight.copy_(odd)
            self.last.weight.copy_(torch.eye(CLASSES))
            self.readout.weight.copy_(2 * torch.eye(CLASSES))

    def forward(self, features):
        return self.readout(self.last(self.even(features) + self.odd(features)))


def labels(result):
    return {str(fix): fix.label for fix in (result.fix_set, *result.alternatives, *result.workarounds) if fix}


def test_a_part_that_passes_the_answer_on_is_no_cause(planting):
    intact, broken, incident, _ = world(planting, "first")
    result = find_fix_set(broken, incident, config=PATCHES, donor_model=intact)
    assert labels(result) == {"patch first": "cause", "patch last": "answer_copied"}
    check = result.fix_set.copy_check
    assert (check.copied, check.upstream_flip_rate) == (check.checks, None), "nothing runs before it"
    (last,) = result.workarounds
    assert last.recovery == pytest.approx(1.0, abs=0.02), "its recovery does not tell them apart"
    assert last.copy_check.copied == last.copy_check.checks
    assert last.copy_check.upstream_flip_rate == 1.0


def test_a_damaged_part_is_the_cause_though_it_copies(planting):
    intact, broken, incident, _ = world(planting, "last")
    result = find_fix_set(broken, incident, config=PATCHES, donor_model=intact)
    assert labels(result) == {"patch last": "cause"}
    check = result.fix_set.copy_check
    assert check.copied == check.checks == CHECKS_PER_CASE * result.fix_set.samples
    assert check.upstream_flip_rate == 0.0


def test_recorded_donors_show_it_too(planting):
    _, broken, incident, healthy = world(planting, "first")
    result = find_fix_set(broken, incident, config=PATCHES, benign=[healthy])
    assert labels(result) == {"patch first": "cause", "patch last": "answer_copied"}


def test_without_a_healthy_run_of_another_answer_nothing_is_claimed(planting):
    """All samples have one right answer; benign samples of other inputs, with other answers, make up for that."""
    intact, broken, incident, _ = world(planting, "first", classes=[2])
    alone = find_fix_set(broken, incident, config=PATCHES, donor_model=intact)
    assert labels(alone) == {"patch first": "cause", "patch last": "cause"}
    assert all(fix.copy_check is None for fix in (alone.fix_set, *alone.alternatives))
    *_, others = world(planting, "first", classes=[0, 1])
    known = find_fix_set(broken, incident, config=PATCHES, donor_model=intact, benign=[others])
    assert labels(known) == {"patch first": "cause", "patch last": "answer_copied"}


def test_a_part_that_passes_the_answer_on_does_not_hide_two_that_are_broken(planting):
    """Alone it restores the output, so it is the smallest set; the damaged pair is found with it shut out."""
    intact = Halves().eval()
    broken = copy.deepcopy(intact)
    with torch.no_grad():
        for half in (broken.even, broken.odd):
            half.weight.copy_(half.weight.roll(1, 0))
    calls = [{"features": np.eye(CLASSES, dtype=np.float32)[list(range(CLASSES)) * 3]}]
    healthy = planting.record(intact, calls, name="ok")
    incident = planting.with_answers(planting.record(broken, calls, name="inc", failure=Failure.label()), healthy)
    result = find_fix_set(Model.wrap(broken), incident, config=PATCHES, donor_model=Model.wrap(intact))
    assert labels(result) == {"patch even, patch odd": "cause", "patch last": "answer_copied"}


def test_validation_measures_it_again(planting):
    intact, broken, incident, _ = world(planting, "first")
    fix = find_fix_set(broken, incident, config=PATCHES, donor_model=intact).fix_set
    late = fix.model_copy(
        update={"interventions": (Intervention(site="last", kind="patch", donor=fix.interventions[0].donor),)}
    )
    measured = validate_fix(broken, incident, late, config=PATCHES, donor_model=intact)
    assert measured.flip_rate == 1.0
    assert measured.label == "answer_copied"


def test_what_takes_nothing_from_a_donor_copies_nothing(plant):
    planted = plant(1, "mlp")
    config = CausalConfig(intervention_types=("zero", "mean"))
    result = find_fix_set(planted.broken, planted.incident, config=config, benign=planted.benign)
    found = [fix for fix in (result.fix_set, *result.workarounds, result.best_effect) if fix is not None]
    assert found
    assert all(fix.copy_check is None for fix in found)


@settings(deadline=None)
@given(st.integers(0, 40), st.integers(0, 40))
def test_half_of_at_least_two_checks(copied, more):
    check = CopyCheck(checks=copied + more, copied=copied, upstream_flip_rate=None)
    assert copies(check) == (copied >= more and copied + more >= 2)
    assert not copies(None)
