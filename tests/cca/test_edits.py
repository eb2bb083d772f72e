"""What an edit leaves at padding: what was there, unless it is NaN or Inf, which masked tokens pass on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model_forensics.cca import find_fix_set
from model_forensics.cca.edits import batch_edits, plain_edit
from model_forensics.cca.jobs import Job, Replacement
from model_forensics.config import CausalConfig
from model_forensics.failure import Failure
from model_forensics.models import Model

MASK = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 0, 0]], dtype=torch.bool)


@pytest.mark.parametrize("height", [1, 3])
@pytest.mark.parametrize("positions", [None, (0, 2)])
def test_an_edit_replaces_only_what_is_not_finite_at_padding(plant, height, positions):
    tap = plant(1, "mlp").broken.sites.get("L1.mlp")
    value = torch.randn(2, 5, 4)
    value[0, 1], value[1, 4, 2], value[1, 3, 0] = float("nan"), float("inf"), -float("inf")
    before = value.clone()
    new = Replacement(torch.randn(height, 4), positions)
    batch = batch_edits([(0, Job(0, 0, {tap: new})), (1, Job(0, 1, {tap: new}))], MASK)[tap](value)
    for row in range(2):
        alone = plain_edit(tap, MASK[row : row + 1], new)(value[row : row + 1])
        assert torch.equal(alone[0], batch[row])
        padding, was = batch[row][~MASK[row]], before[row][~MASK[row]]
        assert torch.equal(padding, torch.where(was.isfinite(), was, 0))
        at = [0, 1, 2] if positions is None else list(positions)
        assert torch.equal(batch[row][MASK[row]][at], new.values.expand(3, -1)[at])
    assert torch.equal(value.nan_to_num(7.0), before.nan_to_num(7.0)), "the model's own tensor stays as it is"


def test_a_row_that_is_not_edited_keeps_its_failure(plant):
    tap = plant(1, "mlp").broken.sites.get("L1.mlp")
    value = torch.full((2, 5, 4), float("nan"))
    edited = batch_edits([(0, Job(0, 0, {tap: Replacement(torch.ones(1, 4))}))], MASK)[tap](value)
    assert edited[0].isfinite().all()
    assert edited[1].isnan().all()


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", ["attn", "mlp"])
def test_one_damaged_component_is_the_fix_set_although_its_padding_is_nan_too(planting, plant, kind, side):
    """Rows of a padded batch: every one of them fails, and none is repaired by two components where one is enough."""
    intact = plant(1, kind, side=side).intact
    module = planting.damaged_copy(intact.module, 1, kind)
    block = module.transformer.h[1]
    with torch.no_grad():
        (block.attn if kind == "attn" else block.mlp).c_proj.weight[0, 0] = float("nan")
    calls = planting.batches(9, side=side)
    assert all(not call["attention_mask"].all() for call in calls), "each batch has padding"
    incident = planting.record(module, calls, name="nan", failure=Failure.nonfinite())
    assert all(np.isnan(logged["logits"]).any() for logged in incident.logged)
    config = CausalConfig(intervention_types=("patch",))
    result = find_fix_set(Model.wrap(module), incident, config=config, donor_model=intact)
    assert result.replay.failing == 9
    assert str(result.fix_set) == f"patch L1.{kind}"
    assert result.fix_set.flip_rate == 1.0
    assert result.fix_set.label == "cause"
    assert result.alternatives == ()
