"""In transformers whose mechanism is known, the fix set lies in the mechanism."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from mechanisms import MECHANISMS, TOTAL, damage, induction, repeated, sequences

from model_forensics.cca import find_fix_set, validate_fix
from model_forensics.cca.copying import copies
from model_forensics.config import CausalConfig
from model_forensics.models import Model, hooks
from model_forensics.types import Intervention

HEADS = {f"L{layer}.head{head}" for layer in range(2) for head in range(2)}
BY_CHANCE = sum(1 / (token + 1) for token in range(1, TOTAL)) / (TOTAL - 1)
"""Mean attention to the token before, of a head that looks at all tokens alike."""
PATCHES = CausalConfig(intervention_types=("patch",))


def calls_of(ids):
    array = ids.numpy()
    return [{"input_ids": array, "attention_mask": np.ones_like(array)}]


def search(planting, intact, broken, ids, mechanism, config=PATCHES):
    """The result of a search, after a look at what it could have got wrong: there are components outside the mechanism
    to choose from, each a candidate, and all of them together are no repair."""
    incident, _ = planting.compared(intact, broken, calls_of(ids))
    given = {"config": config, "donor_model": Model.wrap(intact)}
    result = find_fix_set(Model.wrap(broken), incident, **given)
    assert result.fix_set is not None
    outside = sorted(set(result.spent.pool) - set(mechanism))
    assert len(outside) >= 2
    others = tuple(Intervention(site=site, kind="patch") for site in outside)
    elsewhere = validate_fix(
        Model.wrap(broken),
        incident,
        result.fix_set.model_copy(update={"interventions": others, "finer": None}),
        **given,
    )
    assert not elsewhere.sufficient
    assert result.fix_set.interventions
    return result


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
    result = search(planting, intact, broken, sequences(mechanism, 12, seed=2), {*mechanism.sites, "embed"})
    assert result.replay.failing >= 3
    assert len(result.spent.pool) == 4 + (where == "embed")
    fix = result.fix_set
    assert fix.label == "cause"
    if where == "both":  # the second carries the whole answer, so it hides the first, and is damaged itself
        assert sites_of(fix) <= set(damaged)
        return
    assert sites_of(fix) == set(damaged)
    assert copies(fix.copy_check) == ((mechanism.name, where) != ("reverse", "first")), "but for what reads positions"
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
    assert previous.max() > 3 * BY_CHANCE
    assert looked.max() > 0.5


@pytest.mark.slow
def test_the_heads_of_both_layers_are_the_circuit_and_the_mlps_are_not(learned):
    """By what the intact model loses without them. Heads of a layer stand in for one another."""
    intact, *_ = learned
    ids, _ = repeated(256, torch.Generator().manual_seed(7))

    def accuracy_without(*names):
        taps = [Model.wrap(intact).sites.get(name) for name in names]
        with hooks.edit(intact, dict.fromkeys(taps, lambda value: value.mean((0, 1), keepdim=True).expand_as(value))):
            return float((intact(ids[:, :-1])[:, -1].argmax(-1) == ids[:, -1]).float().mean())

    assert accuracy_without("L0.mlp", "L1.mlp") > 0.99
    for layer in range(2):
        assert accuracy_without(f"L{layer}.head0", f"L{layer}.head1") < 0.5


@pytest.mark.slow
@pytest.mark.parametrize("where", ["positions", "looks back", "looks after"])
def test_the_fix_set_lies_in_the_induction_circuit(planting, learned, where):
    intact, *_ = learned
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
    damaged_input = {"embed"} if where == "positions" else set()
    result = search(planting, intact, broken, ids[:, :-1], HEADS | damaged_input, config)
    assert result.replay.failing >= 6
    heads = ("L0.head0", "L0.head1", "L0.mlp", "L1.head0", "L1.head1", "L1.mlp")
    assert result.spent.pool == (*damaged_input, *heads)
    assert sites_of(result.fix_set) <= (damaged_input or HEADS)
    if where == "looks after":  # what looks back is as it was, and does not repair it
        assert any(site.startswith("L1.") for site in sites_of(result.fix_set))
