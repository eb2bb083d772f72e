"""Sets that resemble a fix set, and its effect run backwards."""

from __future__ import annotations

import pytest
from carriers import world
from hypothesis import given, settings
from hypothesis import strategies as st

from model_forensics.cca import find_fix_set, validate_fix
from model_forensics.cca.controls import SHAM_BITS, SHAM_LAYERS, SHAM_SETS, _sham_sets
from model_forensics.cca.pool import Candidate, component_of
from model_forensics.config import CausalConfig
from model_forensics.models import Tap
from model_forensics.types import Intervention

PATCHES = CausalConfig(intervention_types=("patch",))


def test_sets_like_a_true_cause_do_nothing(plant):
    planted = plant(0, "mlp")
    fix = find_fix_set(planted.broken, planted.incident, config=PATCHES, donor_model=planted.intact).fix_set
    assert str(fix) == "patch L0.mlp"
    assert fix.shams.sets >= 1
    assert fix.shams.sufficient == 0
    assert fix.shams.highest_flip_rate < 1.0
    assert fix.shams.interval.low == 0.0


def test_a_set_like_it_that_works_as_well_is_counted(planting):
    """The module behind the damaged one passes the answer on, so it repairs as well."""
    intact, broken, incident, _ = world(planting, "first")
    fix = find_fix_set(broken, incident, config=PATCHES, donor_model=intact).fix_set
    assert str(fix) == "patch first"
    assert (fix.shams.sets, fix.shams.sufficient, fix.shams.flip_rate) == (1, 1, 1.0)


def test_where_nothing_resembles_it_there_are_no_shams(planting):
    """What lies before the damage computes the same bits, and the noise behind it is far smaller."""
    intact, broken, incident, _ = world(planting, "last")
    fix = find_fix_set(broken, incident, config=PATCHES, donor_model=intact).fix_set
    assert str(fix) == "patch last"
    assert fix.shams is None


def tap(name: str, kind: str, layer: int, order: int) -> Tap:
    module = name.replace("head0", "attn").replace("head1", "attn")
    return Tap(name, kind, layer, None, module, "output", None, None, 4, order)  # type: ignore[arg-type]


KINDS = st.sampled_from(["zero", "patch"])
SITES = [(f"L{layer}.{part}", part.rstrip("01"), layer) for layer in range(5) for part in ("head0", "head1", "mlp")]


@settings(deadline=None)
@given(st.data())
def test_shams_resemble_member_by_member(data):
    pool = []
    for order, (name, kind, layer) in enumerate(SITES):
        edit = Intervention(site=name, kind=data.draw(KINDS))
        pool.append(Candidate(tap(name, kind, layer, order), edit, data.draw(st.floats(1.0, 8.0))))
    chosen = data.draw(st.sets(st.integers(0, len(pool) - 1), min_size=1, max_size=3))
    members = tuple(sorted(chosen))
    drawn = list(_sham_sets(pool, members, seed=3))
    assert drawn == list(_sham_sets(pool, members, seed=3))
    assert len(drawn) == len(set(drawn)) <= SHAM_SETS
    own = {component_of(pool[i].tap) for i in members}
    for sham in drawn:
        assert len({pool[i].tap.name for i in sham}) == len(members)
        assert not own & {component_of(pool[i].tap) for i in sham}
        assert assignable([pool[i] for i in sham], [pool[i] for i in members])


def assignable(shams: list[Candidate], members: list[Candidate]) -> bool:
    """Whether each sham stands for a member of its own, by trying all ways."""
    if not members:
        return not shams
    first, rest = members[0], members[1:]
    return any(alike(one, first) and assignable([other for other in shams if other is not one], rest) for one in shams)


def alike(one: Candidate, other: Candidate) -> bool:
    return (
        one.tap.kind == other.tap.kind
        and one.intervention.kind == other.intervention.kind
        and abs(one.tap.layer - other.tap.layer) <= SHAM_LAYERS
        and max(one.bits, other.bits) <= SHAM_BITS * min(one.bits, other.bits)
    )


def test_the_failing_activations_break_the_reference_model(plant):
    planted = plant(1, "mlp")
    given = {"config": PATCHES, "donor_model": planted.intact}
    fix = find_fix_set(planted.broken, planted.incident, **given).fix_set
    assert fix.reversal.samples == fix.samples
    assert fix.reversal.failures == fix.reversal.samples
    assert fix.reversal.interval.high == 1.0
    elsewhere = fix.interventions[0].model_copy(update={"site": "L0.attn"})
    other = fix.model_copy(update={"interventions": (elsewhere,), "finer": None})
    measured = validate_fix(planted.broken, planted.incident, other, **given)
    assert measured.reversal.failures == 0, "both models compute the same there"


def test_without_a_reference_model_that_works_nothing_is_reversed(plant):
    planted = plant(1, "mlp")
    recorded = find_fix_set(planted.broken, planted.incident, config=PATCHES, benign=planted.benign).fix_set
    assert recorded.label == "cause"
    assert recorded.reversal is None
    named = recorded.interventions[0].model_copy(update={"donor": None})
    fix = recorded.model_copy(update={"interventions": (named,)})
    broken = validate_fix(planted.broken, planted.incident, fix, config=PATCHES, donor_model=planted.broken)
    assert broken.reversal is None
    assert broken.flip_rate == pytest.approx(0.0)
