"""A damaged component is found and proven, whatever its layer, kind and donor."""

from __future__ import annotations

import pytest

from model_forensics.cca import find_fix_set, validate_fix
from model_forensics.config import CausalConfig

CONFIG = CausalConfig()


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("kind", ["attn", "mlp"])
@pytest.mark.parametrize("donor", ["reference", "same input"])
def test_the_damaged_component_is_the_cause(plant, layer, kind, donor):
    planted = plant(layer, kind)
    result = find_fix_set(
        planted.broken,
        planted.incident,
        config=CONFIG,
        benign=planted.benign,
        donor_model=planted.intact if donor == "reference" else None,
    )
    assert result.replay.reproduced
    assert result.replay.bit_identical
    assert result.replay.failing >= 2
    fix = result.fix_set
    assert fix is not None
    assert [str(intervention) for intervention in fix.interventions] == [f"patch {planted.site}"]
    assert fix.label == "cause"
    assert fix.sufficient
    assert fix.minimality == "cardinality"
    assert fix.flip_rate == 1.0
    assert fix.recovery == pytest.approx(1.0, abs=1e-3)
    assert fix.necessity == (1.0,)
    assert not fix.in_sample
    given = fix.interventions[0].donor
    assert given is not None
    assert given.same_input
    assert given.kind == ("reference_model" if donor == "reference" else "benign_sample")
    assert fix.side_effects is not None
    assert fix.side_effects.changed == 0 < fix.side_effects.changed_without_fix
    again = validate_fix(
        planted.broken,
        planted.incident,
        fix,
        benign=planted.benign,
        donor_model=planted.intact if donor == "reference" else None,
        config=CONFIG,
    )
    assert again == fix


def test_left_padding(plant):
    planted = plant(1, "mlp", side="left")
    result = find_fix_set(planted.broken, planted.incident, config=CONFIG, benign=planted.benign)
    assert result.fix_set is not None
    assert str(result.fix_set) == f"patch {planted.site}"
    assert result.spent is not None
    assert result.spent.self_check_max_error <= 5e-6
