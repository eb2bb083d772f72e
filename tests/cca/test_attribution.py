"""Estimates order candidates; they are exact where the model is linear, and where they fail it is noticed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model_forensics.cca.attribution import agreement, estimated_effects, linearised
from model_forensics.cca.choice import Healthy
from model_forensics.cca.executor import Executor
from model_forensics.cca.pool import build_pool
from model_forensics.cca.prepare import prepare
from model_forensics.config import CausalConfig
from model_forensics.failure import Failure
from model_forensics.models import Model


def effects(broken, incident, intact, granularity="component"):
    """Estimated and measured decrease of the score, per patch."""
    config = CausalConfig(intervention_types=("patch",), granularity=granularity)
    prepared = prepare(broken, incident, config=config, healthy=Healthy(donor_model=intact))
    samples = [case.sample for case in prepared.cases]
    pool, _ = build_pool(prepared.taps, ("patch",), prepared.sources, prepared.base, samples, ())
    estimated = estimated_effects(broken, prepared.calls, prepared.base, prepared.sources, pool, prepared.cases)
    executor = Executor(prepared.runner, prepared.sources, pool, prepared.cases, seed=0)
    outcomes = executor.score_many([(i,) for i in range(len(pool))], range(len(prepared.cases)))
    return estimated, [outcome.score_decrease for outcome in outcomes]


class Sum(torch.nn.Module):
    """Linear in every component."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.parts = torch.nn.ModuleList(torch.nn.Linear(5, 6) for _ in range(4))
        self.mix = torch.nn.Linear(6, 6)
        with torch.no_grad():
            self.parts[0].bias[0] += 100.0

    def forward(self, features):
        return self.mix(sum(part(features) for part in self.parts))


@pytest.mark.parametrize("seed", range(3))
def test_exact_where_the_model_is_linear(planting, seed):
    broken, intact = Model.wrap(Sum(seed)), Model.wrap(Sum(seed + 10))
    features = np.random.default_rng(seed).normal(size=(8, 5)).astype(np.float32)
    with torch.no_grad():
        classes = broken.module(torch.from_numpy(features[:1]))[0].argsort()
    failure = Failure.label(wrong=[int(classes[-1])], right=[int(classes[0])])
    calls = [{"features": features[:3]}, {"features": features[3:]}]
    estimated, measured = effects(broken, planting.record(broken, calls, name="inc", failure=failure), intact)
    assert len(estimated) == 4
    assert estimated == pytest.approx(measured, rel=1e-4, abs=1e-3)


def test_values_stay_what_they_are(planting):
    module = planting.tiny_gpt2()
    ids = torch.arange(1, 9)[None]
    with torch.no_grad(), linearised(module):
        inside = module(input_ids=ids).logits
    torch.testing.assert_close(inside, module(input_ids=ids).logits.detach(), rtol=1e-5, atol=1e-5)
    assert not any(part._forward_hooks for part in module.modules())


@pytest.mark.parametrize("granularity", ["component", "head"])
@pytest.mark.parametrize(("layer", "kind"), [(0, "mlp"), (1, "attn")])
def test_estimates_rank_as_measurements_do(plant, layer, kind, granularity):
    planted = plant(layer, kind, layers=6)
    estimated, measured = effects(planted.broken, planted.incident, planted.intact, granularity)
    assert agreement(estimated, measured) > 0.4
    assert int(np.argmax(np.abs(estimated))) in np.argsort(measured)[-3:]


def test_a_divergence_has_a_gradient_and_nan_has_none(plant, planting):
    planted = plant(0, "mlp")
    incident = planting.record(planted.broken, planted.incident.calls, name="d", failure=Failure.divergence(1e-4))
    estimated, measured = effects(planted.broken, incident, planted.intact)
    assert agreement(estimated, measured) > 0.4
    module = planting.damaged_copy(planted.intact.module, 1, "mlp")
    with torch.no_grad():
        module.transformer.h[1].mlp.c_proj.weight[0, 0] = float("nan")
    incident = planting.record(module, planted.incident.calls, name="nan", failure=Failure.nonfinite())
    assert effects(Model.wrap(module), incident, planted.intact)[0] is None


def test_agreement_needs_something_to_compare():
    assert agreement([1.0, 2.0], [1.0, 2.0]) is None
    assert agreement([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) is None
    assert agreement([1.0, 2.0, 3.0], [2.0, 4.0, 9.0]) == pytest.approx(1.0)
    assert agreement([1.0, 2.0, 3.0], [3.0, 2.0, 1.0]) == pytest.approx(-1.0)
