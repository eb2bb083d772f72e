"""Large pools are searched where the cause is likely, and wider where that proves wrong."""

from __future__ import annotations

import pytest
from mechanisms import MECHANISMS, damage, sequences

from model_forensics.cca import find_fix_set
from model_forensics.cca.pool import Candidate
from model_forensics.cca.shortlist import _sizes, promising_order
from model_forensics.config import CausalConfig
from model_forensics.failure import Failure
from model_forensics.models import Model
from model_forensics.types import Intervention

REVERSE = MECHANISMS[0]


def search(planted, **changes):
    config = CausalConfig(intervention_types=("patch",), **changes.pop("config"))
    return find_fix_set(planted.broken, planted.incident, config=config, donor_model=planted.intact, **changes)


def test_order_takes_forensics_and_estimates_in_turn(plant):
    model = plant(1, "mlp").broken
    names = ["L0.attn", "L0.mlp", "L1.attn", "L1.mlp", "L2.attn"]
    pool = [Candidate(model.sites.get(n), Intervention(site=n, kind=k), 1.0) for n in names for k in ("zero", "patch")]
    order = promising_order(pool, ["L1.mlp", "L9.mlp"], [0, 0, 0, 1, 0, 0, 0, 2, -5, 0])
    assert [pool[i].tap.name for i in order][::2] == ["L1.mlp", "L2.attn", "L0.mlp", "L0.attn", "L1.attn"]
    assert all(order[i + 1] == order[i] + 1 for i in range(0, 10, 2))
    assert promising_order(pool, [], None) == list(range(10))


def test_sizes_double():
    sites = [f"s{i}" for i in range(7) for _ in range(2)]
    assert list(_sizes(sites, 2)) == [4, 8, 14]
    assert list(_sizes(sites, 9)) == [14]


def test_estimates_put_the_cause_into_a_small_pool(plant):
    planted = plant(0, "mlp", layers=6)
    result = search(planted, config={"max_pool_sites": 4})
    assert str(result.fix_set) == "patch L0.mlp"
    assert result.spent.left_out + len(result.spent.pool) == 11
    assert result.fix_set.certificate.candidates == len(result.spent.pool)
    assert result.spent.attribution_agreement is not None or result.spent.left_out == 0


def test_a_misleading_order_is_noticed(plant):
    """Forensics points to the last component, and one site is searched: the damaged one is outside."""
    planted = plant(0, "mlp", layers=6)
    result = search(planted, config={"max_pool_sites": 1}, ranking=["L5.attn"])
    assert str(result.fix_set) == "patch L0.mlp"
    assert "L0.mlp" in result.spent.pool
    assert any("the pool was widened" in warning for warning in result.warnings)


def test_what_flows_through_queries_alone_is_found_all_the_same(planting):
    """Estimates are blind to it: L0.mlp only steers where L1.attn looks."""
    intact, broken = REVERSE.build(0), REVERSE.build(1)
    damage(broken, "L0.mlp")
    ids = sequences(REVERSE, 12, seed=2).numpy()
    calls = [{"input_ids": ids, "attention_mask": ids * 0 + 1}]
    incident, _ = planting.compared(intact, broken, calls)
    config = CausalConfig(intervention_types=("patch",), max_pool_sites=1)
    result = find_fix_set(
        Model.wrap(broken),
        incident,
        config=config,
        donor_model=Model.wrap(intact),
        ranking=["L0.attn"],
    )
    assert str(result.fix_set) == "patch L0.mlp"
    assert [(str(one), one.label) for one in result.workarounds] == [("patch L1.attn", "answer_copied")]
    assert any("the pool was widened" in warning for warning in result.warnings)


@pytest.mark.parametrize("sites", [1, 3])
def test_a_failure_without_gradient_says_so(plant, planting, sites):
    planted = plant(1, "mlp")
    module = planting.damaged_copy(planted.intact.module, 1, "mlp")
    module.transformer.h[1].mlp.c_proj.weight.data[0, 0] = float("nan")
    calls = planting.batches(6)
    incident = planting.record(module, calls, name="nan", failure=Failure.nonfinite())
    config = CausalConfig(intervention_types=("patch",), max_pool_sites=sites)
    result = find_fix_set(Model.wrap(module), incident, config=config, donor_model=planted.intact)
    assert str(result.fix_set) == "patch L1.mlp"
    noted = any("no finite gradient" in warning for warning in result.warnings)
    assert noted == (sites < 3)
    assert result.spent.attribution_agreement is None
