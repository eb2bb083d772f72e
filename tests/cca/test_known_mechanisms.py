"""In transformers whose mechanism is known, the fix set lies in the mechanism."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from mechanisms import MECHANISMS, TOTAL, damage, induction, repeated, sequences

from model_forensics.cca import find_fix_set
from model_forensics.config import CausalConfig
from model_forensics.failure import Failure
from model_forensics.models import Model

PATCHES = CausalConfig(intervention_types=("patch",))


def calls_of(ids):
    array = ids.numpy()
    return [{"input_ids": array, "attention_mask": np.ones_like(array)}]


def search(planting, intact, broken, ids, config=PATCHES):
    healthy = planting.record(intact, calls_of(ids), name="healthy", sites=[])
    incident = planting.record(broken, calls_of(ids), name="inc", failure=Failure.token(), sites=[])
    incident = planting.with_answers(incident, healthy)
    return find_fix_set(Model.wrap(broken), incident, config=config, donor_model=Model.wrap(intact))


def sites_of(fix):
    return {intervention.site for intervention in fix.interventions}


@pytest.mark.parametrize("mechanism", MECHANISMS, ids=lambda mechanism: mechanism.name)
def test_the_weights_compute_what_they_should(mechanism):
    ids = sequences(mechanism, 200, seed=1)
    for seed in range(2):
        answers = mechanism.build(seed)(ids)[:, -1].argmax(-1).tolist()
        assert answers == [mechanism.answer(row) for row in ids.tolist()]


@pytest.mark.parametrize("mechanism", MECHANISMS, ids=lambda mechanism: mechanism.name)
@pytest.mark.parametrize("where", ["first", "second", "both", "embed"])
def test_the_fix_set_lies_in_the_mechanism(planting, mechanism, where):
    """The noise differs between the two models too, so that every component is a candidate.

    What comes after a damaged part carries the whole answer and repairs it as well: it is told apart as a copy.
    """
    intact, broken = mechanism.build(0), mechanism.build(1)
    damaged = {"first": mechanism.sites[:1], "second": mechanism.sites[1:], "both": mechanism.sites}.get(
        where, ["embed"]
    )
    for site in damaged:
        damage(broken, site)
    result = search(planting, intact, broken, sequences(mechanism, 12, seed=2))
    assert result.replay.failing >= 3
    assert len(result.spent.pool) == 4 + (where == "embed")
    fix = result.fix_set
    assert fix is not None
    assert fix.label == "cause"
    if where == "both":  # the second carries the whole answer, so it hides the first, and is damaged itself
        assert sites_of(fix) <= set(damaged)
        return
    assert sites_of(fix) == set(damaged)
    assert result.alternatives == ()
    for other in result.workarounds:
        assert other.label == "answer_copied"
        assert other.copy_check.upstream_flip_rate == 1.0


@pytest.fixture(scope="module")
def learned():
    """The trained model, and per layer what its heads look at: [heads] mean attention to the place that matters.

    Layer 0: to the token before. Layer 1: to the tokens after each time that this one was there.
    """
    *_, (model, accuracy) = induction(300)
    assert accuracy > 0.99
    model.requires_grad_(False)
    ids = repeated(64, torch.Generator().manual_seed(7))[0][:, :-1]
    x = model.drop(ids)
    previous = model.h[0].attn.pattern(x).diagonal(-1, dim1=-2, dim2=-1).mean((0, 2))
    pattern = model.h[1].attn.pattern(model.h[0](x))[:, :, -1]
    follows = torch.cat([torch.zeros(64, 1, dtype=torch.bool), ids[:, :-1] == ids[:, -1:]], dim=1)
    looked = (pattern * follows[:, None]).sum(-1).mean(0)
    return model, previous, looked


@pytest.mark.slow
def test_induction_is_a_head_that_looks_back_and_one_that_looks_after(learned):
    _, previous, looked = learned
    assert previous.max() > 3 / TOTAL
    assert looked.max() > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("where", ["positions", "looks back", "looks after"])
def test_the_fix_set_lies_in_the_induction_circuit(planting, learned, where):
    intact, previous, looked = learned
    back, after = f"L0.head{int(previous.argmax())}", f"L1.head{int(looked.argmax())}"
    broken = copy.deepcopy(intact)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for block in broken.h:  # nothing is computed with the same bits
            block.mlp.c_proj.bias += 1e-3 * torch.randn(64, generator=generator)
            block.attn.v.bias += 1e-3 * torch.randn(64, generator=generator)
        if where == "positions":
            broken.drop.position.weight[:TOTAL] = broken.drop.position.weight[:TOTAL].flip(0)
        else:
            block = broken.h[0 if where == "looks back" else 1]
            block.attn.q.weight.neg_()
    ids, _ = repeated(24, torch.Generator().manual_seed(11))
    config = CausalConfig(intervention_types=("patch",), granularity="head")
    result = search(planting, intact, broken, ids[:, :-1], config)
    assert result.replay.failing >= 6
    assert result.spent.pool == ("L0.head0", "L0.head1", "L0.mlp", "L1.head0", "L1.head1", "L1.mlp")
    assert result.fix_set is not None
    assert sites_of(result.fix_set) & {back, after}
    assert sites_of(result.fix_set) <= {"L0.head0", "L0.head1", "L1.head0", "L1.head1"}
