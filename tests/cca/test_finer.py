"""Heads, neurons and positions that repair as well as the components that hold them."""

from __future__ import annotations

import copy

import pytest
import torch
from mechanisms import LENGTH, MECHANISMS, SIZE, damage, sequences

from model_forensics.cca import find_fix_set, validate_fix
from model_forensics.config import CausalConfig
from model_forensics.errors import UnknownSite
from model_forensics.models import Model
from model_forensics.types import Finer, Intervention

PATCHES = CausalConfig(intervention_types=("patch",))


def search(planting, intact, broken, calls, **changes):
    incident, healthy = planting.compared(intact, broken, calls)
    given = {"config": PATCHES, "donor_model": Model.wrap(intact), "benign": [healthy], **changes}
    return find_fix_set(Model.wrap(broken), incident, **given)


def again(planting, intact, broken, calls, fix):
    incident, _ = planting.compared(intact, broken, calls)
    return validate_fix(Model.wrap(broken), incident, fix, config=PATCHES, donor_model=Model.wrap(intact))


def test_the_head_and_the_position_of_a_known_mechanism(planting):
    """One head fetches the wrong value for the answer, which is read at the last position."""
    reverse = MECHANISMS[0]
    intact, broken = reverse.build(0), reverse.build(1)
    with torch.no_grad():
        value = broken.h[1].attn.v.weight
        value[:SIZE] = value[:SIZE].roll(1, 0)
    ids = sequences(reverse, 16, seed=2).numpy()
    result = search(planting, intact, broken, [{"input_ids": ids, "attention_mask": ids * 0 + 1}])
    assert str(result.fix_set) == "patch L1.attn"
    finer = result.fix_set.finer
    assert [(one.site, one.positions) for one in finer.interventions] == [("L1.head0", (LENGTH - 1,))]
    assert finer.flip_rate == 1.0
    assert finer.samples == result.fix_set.samples
    assert finer.bits_replaced < result.fix_set.bits_replaced
    calls = [{"input_ids": ids, "attention_mask": ids * 0 + 1}]
    assert again(planting, intact, broken, calls, result.fix_set).finer == finer


@pytest.mark.parametrize("site", ["L0.head1", "L0.neuron3", "L1.neuron3-128", "L1.neuron5-4", "L1.resid", "L7.mlp"])
def test_parts_that_the_fix_set_does_not_hold_are_not_measured(plant, site):
    planted = plant(1, "mlp")
    given = {"config": PATCHES, "donor_model": planted.intact}
    fix = find_fix_set(planted.broken, planted.incident, **given).fix_set
    part = fix.interventions[0].model_copy(update={"site": site})
    finer = Finer(interventions=(part,), flip_rate=1.0, samples=4, recovery=1.0, bits_replaced=1.0)
    with pytest.raises(UnknownSite, match="holds it"):
        validate_fix(planted.broken, planted.incident, fix.model_copy(update={"finer": finer}), **given)


@pytest.mark.parametrize("neuron", [0, 37, 127])
def test_the_damaged_neuron(planting, neuron):
    intact = planting.tiny_gpt2()
    broken = copy.deepcopy(intact)
    with torch.no_grad():
        broken.transformer.h[1].mlp.c_fc.bias[neuron] += 30.0
    calls = planting.batches(8)
    result = search(planting, intact, broken, calls)
    assert str(result.fix_set) == "patch L1.mlp"
    assert result.fix_set.label == "cause"
    assert [one.site for one in result.fix_set.finer.interventions] == [f"L1.neuron{neuron}"]
    assert result.fix_set.finer.interventions[0].positions is None, "samples of different lengths share no positions"
    assert result.fix_set.finer.recovery == pytest.approx(1.0, abs=1e-3)
    assert again(planting, intact, broken, calls, result.fix_set).finer == result.fix_set.finer
    off = search(planting, intact, broken, calls, config=PATCHES.model_copy(update={"refine": False}))
    assert off.fix_set.finer is None
    benign = [planting.record(intact, calls, name="benign", sites="all")]
    recorded = search(planting, intact, broken, calls, donor_model=None, benign=benign)
    assert str(recorded.fix_set) == "patch L1.mlp"
    assert recorded.fix_set.finer is None, "no recording holds neurons"


@pytest.mark.parametrize("kind", ["attn", "mlp"])
def test_a_damaged_output_projection_has_no_finer_part(plant, kind):
    planted = plant(1, kind)
    result = find_fix_set(
        planted.broken, planted.incident, config=PATCHES, benign=planted.benign, donor_model=planted.intact
    )
    assert str(result.fix_set) == f"patch {planted.site}"
    assert result.fix_set.finer is None


def test_a_patch_at_the_scored_position_alone_is_no_cause(planting):
    """It brings the answer along, whatever is broken before it; even where the component is the damaged one."""
    reverse = MECHANISMS[0]
    intact, broken = reverse.build(0), reverse.build(1)
    damage(broken, "L1.attn")
    ids = sequences(reverse, 12, seed=2).numpy()
    calls = [{"input_ids": ids, "attention_mask": ids * 0 + 1}]
    incident, _ = planting.compared(intact, broken, calls)
    given = {"config": PATCHES, "donor_model": Model.wrap(intact)}
    found = find_fix_set(Model.wrap(broken), incident, **given).fix_set
    for positions, label in (((-1,), "answer_copied"), ((LENGTH - 1,), "answer_copied"), (None, "cause")):
        late = (Intervention(site="L1.attn", kind="patch", positions=positions),)
        measured = validate_fix(Model.wrap(broken), incident, found.model_copy(update={"interventions": late}), **given)
        assert measured.flip_rate == 1.0
        assert measured.label == label
