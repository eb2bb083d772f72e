"""What `find_fix_set` promises around the search: replay, donors, warnings, limits, hostile input."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from model_forensics.cca import find_fix_set, validate_fix
from model_forensics.cca.choice import Healthy
from model_forensics.cca.executor import Executor
from model_forensics.cca.experiment import Design
from model_forensics.cca.prepare import prepare
from model_forensics.config import CausalConfig
from model_forensics.errors import InterventionError, OutputError, UsageError
from model_forensics.failure import Failure
from model_forensics.models import Model

CONFIG = CausalConfig()


def find(planted, **changes):
    given = {"config": CONFIG, "benign": planted.benign, **changes}
    return find_fix_set(given.pop("model", planted.broken), given.pop("incident", planted.incident), **given)


def test_a_healthy_model_does_not_reproduce_the_failure(plant):
    planted = plant(1, "mlp")
    result = find(planted, model=planted.intact)
    assert result.fix_set is None
    assert result.spent is None
    assert result.replay.failing == 0
    assert not result.replay.reproduced
    assert result.replay.max_error > 1e-3


def test_samples_that_do_not_fail_are_left_out(plant):
    planted = plant(1, "mlp")
    incident = copy.deepcopy(planted.incident)
    first = incident.samples[0]
    incident.samples[0] = first.model_copy(update={"right": first.wrong, "wrong": first.right})
    result = find(planted, incident=incident)
    assert result.replay.failing == find(planted).replay.failing - 1
    assert any("do not fail on replay" in warning for warning in result.warnings)


def test_no_score_without_an_execution(plant, monkeypatch):
    planted = plant(1, "mlp")
    executed: set[tuple[int, ...]] = set()
    original = Executor._run

    def counting(self, jobs, keys):
        executed.update(members for members, _ in keys)
        return original(self, jobs, keys)

    monkeypatch.setattr(Executor, "_run", counting)
    result = find(planted)
    assert result.spent is not None
    assert result.spent.combinations == len(executed - {()})
    assert result.spent.forwards > result.spent.combinations
    assert result.spent.pool
    assert all(site.endswith(("attn", "mlp")) for site in result.spent.pool)


def test_the_pool_never_holds_block_outputs_norms_or_logits(plant):
    planted = plant(1, "attn")
    result = find(planted, config=CausalConfig(granularity="head", max_fix_set_size=1))
    assert result.spent is not None
    kinds = {planted.broken.sites.get(site).kind for site in result.spent.pool}
    assert kinds == {"head", "mlp"}


def test_untouched_components_are_not_candidates(plant):
    """Upstream of the damage the donor computes the same bits: patching these would be a no-op."""
    planted = plant(2, "attn")
    result = find(planted, config=CausalConfig(intervention_types=("patch",)), donor_model=planted.intact)
    assert result.spent is not None
    assert result.spent.pool == ("L2.attn", "L2.mlp")


def test_two_damaged_components_are_both_needed(plant, planting):
    module = planting.tiny_gpt2(4)
    broken = planting.damaged_copy(planting.damaged_copy(module, 0, "mlp", scale=4.0), 2, "attn", scale=4.0)
    calls = planting.batches(8)
    healthy = planting.record(module, calls, name="benign")
    incident = planting.with_answers(planting.record(broken, calls, name="inc", failure=Failure.token()), healthy)
    config = CausalConfig(intervention_types=("patch",), early_stop_threshold=1.0)
    result = find_fix_set(Model.wrap(broken), incident, config=config, benign=[healthy])
    assert result.fix_set is not None
    assert result.fix_set.label == "cause"
    assert {i.site for i in result.fix_set.interventions} == {"L0.mlp", "L2.attn"}
    assert result.fix_set.minimality == "cardinality"
    assert all(lost >= 0 for lost in result.fix_set.necessity)
    assert len(result.fix_set.necessity) == 2


def test_only_zero_and_mean_without_a_healthy_run_is_at_most_a_workaround(plant):
    planted = plant(1, "mlp")
    result = find(planted, benign=[planted.benign[1]], config=CausalConfig(intervention_types=("zero", "mean")))
    sets = [result.fix_set, *result.alternatives, *result.workarounds, result.best_effect]
    assert any(sets)
    for fix in filter(None, sets):
        assert fix.label == "workaround"


def test_sets_that_some_cases_show_to_be_insufficient_are_not_run_on_the_others(plant, monkeypatch):
    planted = plant(1, "mlp")
    given = {"benign": [planted.benign[1]], "config": CausalConfig(intervention_types=("zero", "mean"))}
    early = find(planted, **given)
    monkeypatch.setattr(Design, "_possible", lambda self, laboratory: None)
    full = find(planted, **given)
    assert early.spent is not None
    assert full.spent is not None
    assert early.spent.combinations == full.spent.combinations
    assert early.spent.forwards < full.spent.forwards
    same = {"spent": None, "best_effect": None}
    assert early.model_copy(update=same) == full.model_copy(update=same)


def test_a_donor_with_another_answer_is_never_a_cause(plant, planting):
    """Every donor run carries the right answer of the incident, on another input: flips prove nothing."""
    planted = plant(1, "mlp")
    random = np.random.default_rng(5)
    calls = []
    for call in planted.incident.calls:
        ids = np.where(call["attention_mask"] == 1, random.integers(1, planting.VOCABULARY, call["input_ids"].shape), 0)
        calls.append({"input_ids": ids, "attention_mask": call["attention_mask"]})
    contrast = planting.record(planted.intact, calls, name="contrast")
    incident = copy.deepcopy(planted.incident)
    for index, sample in enumerate(incident.samples):
        answer = int(np.argmax(contrast.logged[index]["logits"]))
        wrong = int(np.argmax(incident.logged[index]["logits"]))
        incident.samples[index] = sample.model_copy(
            update={"right": (answer,), "wrong": (wrong,) if wrong != answer else ()}
        )
    result = find(
        planted, incident=incident, benign=[], contrast=contrast, config=CausalConfig(intervention_types=("patch",))
    )
    found = [result.fix_set, *result.alternatives, *result.workarounds, result.best_effect]
    assert any(fix.label == "answer_copied" for fix in filter(None, found))
    for fix in filter(None, found):
        assert fix.label != "cause"
        assert fix.copy_check.upstream_flip_rate is None
        assert fix.interventions[0].donor.kind == "contrast"
        assert not fix.interventions[0].donor.same_input


def test_a_contrast_must_pair_token_for_token(plant, planting):
    planted = plant(1, "mlp")
    with pytest.raises(InterventionError, match="tokens"):
        find(
            planted, benign=[], contrast=planting.record(planted.intact, planting.batches(8, seed=77), name="contrast")
        )
    with pytest.raises(InterventionError, match="samples"):
        find(planted, benign=[], contrast=planted.benign[1])


def test_timeout_zero_runs_no_intervention(plant):
    result = find(plant(1, "mlp"), timeout_seconds=0)
    assert result.fix_set is None
    assert result.best_effect is None
    assert result.spent is not None
    assert result.spent.timed_out
    assert result.spent.combinations == 0
    with pytest.raises(UsageError):
        find(plant(1, "mlp"), timeout_seconds=-1)


def test_same_seed_same_result(plant):
    planted = plant(0, "attn")
    seen: list[tuple[str, int, int]] = []
    first = find(planted, seed=3, progress=lambda *step: seen.append(step))
    assert first == find(planted, seed=3)
    assert seen
    assert all(stage == "search" and done <= total for stage, done, total in seen)


def test_one_group_says_that_its_evidence_is_in_sample(plant):
    planted = plant(1, "mlp")
    incident = copy.deepcopy(planted.incident)
    incident.samples = [sample.model_copy(update={"group": "one"}) for sample in incident.samples]
    result = find(planted, incident=incident)
    assert result.fix_set is not None
    assert result.fix_set.in_sample
    assert result.fix_set.groups == 1
    assert result.fix_set.flip_interval.low == pytest.approx(0.025)


def test_without_recorded_outputs_the_replay_is_not_judged(plant):
    planted = plant(1, "mlp")
    incident = copy.deepcopy(planted.incident)
    incident.logged = [{} for _ in incident.logged]
    result = find(planted, incident=incident)
    assert not result.replay.reproduced
    assert any("could not be judged" in warning for warning in result.warnings)
    assert result.fix_set is not None
    assert str(result.fix_set) == f"patch {planted.site}"


def test_nan_outputs_are_refused_unless_they_are_the_failure(plant, planting):
    planted = plant(1, "mlp")
    broken = copy.deepcopy(planted.broken.module)
    with torch.no_grad():
        broken.transformer.h[1].mlp.c_proj.weight[3, 5] = float("nan")
    model = Model.wrap(broken)
    calls = planted.incident.calls
    with pytest.raises(OutputError):
        find(planted, model=model, incident=planting.record(model, calls, name="nan", failure=Failure.token(wrong=[1])))
    incident = planting.record(model, calls, name="nan", failure=Failure.nonfinite())
    result = find(planted, model=model, incident=incident)
    assert result.replay.reproduced
    assert result.replay.failing == len(incident.samples)
    assert result.fix_set is not None
    assert result.fix_set.label == "cause"
    assert result.fix_set.interventions[0].site == "L1.mlp"
    assert result.fix_set.recovery == 1.0


def test_divergence_from_the_donor_model(plant, planting):
    planted = plant(2, "mlp")
    incident = planting.record(planted.broken, planted.incident.calls, name="div", failure=Failure.divergence(1e-4))
    result = find(planted, incident=incident, donor_model=planted.intact)
    assert result.fix_set is not None
    assert str(result.fix_set) == "patch L2.mlp"
    assert result.fix_set.label == "cause"
    with pytest.raises(OutputError, match="reference"):
        find(planted, incident=incident, benign=[])


def test_the_donor_that_is_asked_for_is_the_one_or_none(plant):
    planted = plant(1, "mlp")
    for donor in ("reference_model", "contrast"):
        with pytest.raises(UsageError, match=f"'{donor}' is asked for and not given"):
            find(planted, config=CausalConfig(donor=donor))
    with pytest.raises(UsageError, match="not given"):
        find(planted, benign=[], config=CausalConfig(donor="benign_sample"))
    with pytest.raises(UsageError, match="reference_model is given too"):
        find(planted, donor_model=planted.intact, config=CausalConfig(donor="benign_sample"))
    for donor, given in (("benign_sample", {}), ("reference_model", {"donor_model": planted.intact})):
        result = find(planted, config=CausalConfig(donor=donor, intervention_types=("patch",)), **given)
        assert result.fix_set is not None
        assert result.fix_set.interventions[0].donor.kind == donor


def test_kinds_without_a_donor(plant):
    planted = plant(1, "mlp")
    with pytest.raises(InterventionError, match="no site has a donor"):
        find(planted, benign=[], config=CausalConfig(intervention_types=("patch",)))
    result = find(planted, benign=[])
    assert any("'patch' interventions were left out" in warning for warning in result.warnings)


def test_an_unhealthy_donor_leaves_nothing_to_try(plant):
    planted = plant(1, "mlp")
    result = find(planted, donor_model=planted.broken, config=CausalConfig(intervention_types=("patch",)))
    assert result.fix_set is None
    assert result.spent is not None
    assert result.spent.combinations == 0
    assert any("not healthier" in warning for warning in result.warnings)


def test_a_donor_of_another_width_is_refused(plant, planting):
    planted = plant(1, "mlp")
    from transformers import GPT2Config, GPT2LMHeadModel

    other = GPT2LMHeadModel(GPT2Config(vocab_size=planting.VOCABULARY, n_positions=32, n_embd=16, n_layer=3, n_head=2))
    with pytest.raises(InterventionError, match="features"):
        find(planted, donor_model=Model.wrap(other))


def test_a_benign_recording_is_no_incident(plant):
    planted = plant(1, "mlp")
    with pytest.raises(UsageError, match="no failure"):
        find(planted, incident=planted.benign[0])


def test_explained_away_counts_what_forensics_says_about_the_repaired_run(plant):
    planted = plant(0, "mlp", layers=4)
    healthy = planted.benign[0]

    def rescore(activations):
        assert all(len(values) == len(planted.incident.samples) for values in activations.values())
        return frozenset(
            (sample, site)
            for site, values in activations.items()
            for sample, (a, b) in enumerate(zip(values, healthy.recorded[site], strict=True))
            if np.abs(a - b).max() > 1e-3
        )

    def always(activations):
        return frozenset((0, site) for site in activations)

    def two_sites(_):
        return frozenset((sample, site) for sample in range(3) for site in ("L0.mlp", "L0.resid"))

    result = find(planted, rescore=rescore)
    assert result.fix_set is not None
    assert str(result.fix_set) == "patch L0.mlp"
    assert result.fix_set.explained_away == 1.0
    asked = []

    def but_where_all_is_repaired(activations):
        asked.append(activations)
        return frozenset() if len(asked) == 2 else always(activations)

    blind = plant(0, "mlp", layers=4, sites=("L*.attn", "L*.mlp", "L*.resid"))
    never = find(blind, rescore=but_where_all_is_repaired)
    assert never.fix_set is None or never.fix_set.label == "workaround", "the fault may lie in the embedding"
    for donor_model in (planted.intact, None):
        asked.clear()
        known = find(planted, rescore=but_where_all_is_repaired, donor_model=donor_model)
        assert known.fix_set is not None, "a donor with the embedding shows that nothing before the set restores"
        assert (str(known.fix_set), known.fix_set.label) == ("patch L0.mlp", "cause")
        assert known.fix_set.explained_away == 0.0
    inputs = find(planted, rescore=always)
    assert inputs.fix_set is not None, "what is odd about a healthy run on the same inputs is theirs"
    assert inputs.fix_set.explained_away is None
    few = find(planted, rescore=two_sites)
    assert few.fix_set is not None
    assert few.fix_set.explained_away is None


@pytest.mark.parametrize(
    ("sites", "complete"),
    [(("embed", "L*.attn", "L*.mlp"), True), (("L*.attn", "L*.mlp"), False), (("embed", "L*.mlp"), False)],
)
def test_what_lies_before_a_set_is_repaired_only_if_donors_hold_all_of_it(plant, sites, complete):
    planted = plant(1, "mlp", sites=sites)
    prepared = prepare(planted.broken, planted.incident, config=CONFIG, healthy=Healthy(planted.benign))
    design = Design.of(prepared, CONFIG, (), 0)
    pool, _ = design.pool()
    laboratory = design.laboratory(pool, planted.benign)
    damaged = next(i for i, one in enumerate(pool) if str(one.intervention) == "patch L1.mlp")
    upstream = laboratory.copying.upstream([(pool[damaged].tap, pool[damaged].intervention)], prepared.cases)
    assert upstream is not None
    assert upstream.complete == complete
    assert upstream.outcome.flips == 0
    assert laboratory._begins((damaged,)) == complete
    zeroed = next(i for i, one in enumerate(pool) if str(one.intervention) == "zero L1.mlp")
    assert not laboratory._begins((zeroed,)), "a zero may keep a component from triggering what is behind it"


def test_validation_refuses_another_experiment(plant):
    planted = plant(1, "mlp")
    fix = find(planted, donor_model=planted.intact).fix_set
    assert fix is not None
    given = {"config": CONFIG, "benign": planted.benign}
    with pytest.raises(InterventionError, match="another one"):
        validate_fix(planted.broken, planted.incident, fix, **given)
    with pytest.raises(InterventionError, match="no sample"):
        validate_fix(planted.intact, planted.incident, fix, donor_model=planted.intact, **given)
    wrong = fix.model_copy(update={"interventions": (fix.interventions[0].model_copy(update={"site": "L0.attn"}),)})
    measured = validate_fix(planted.broken, planted.incident, wrong, donor_model=planted.intact, **given)
    assert not measured.sufficient
    assert measured.label == "workaround"


@pytest.mark.parametrize("site", ["L1.resid", "final_norm", "logits"])
def test_a_cut_through_the_whole_model_is_not_validated(plant, site):
    """Copied from a healthy run it always works and explains nothing."""
    planted = plant(1, "mlp")
    fix = find(planted, donor_model=planted.intact).fix_set
    cut = fix.model_copy(update={"interventions": (fix.interventions[0].model_copy(update={"site": site}),)})
    with pytest.raises(InterventionError, match="cut through"):
        validate_fix(planted.broken, planted.incident, cut, config=CONFIG, donor_model=planted.intact)


def test_the_embedding_is_a_candidate_of_a_reference_model_alone(plant, planting):
    """Any other replacement of it would make another input of the sample."""
    planted = plant(1, "mlp")
    broken = copy.deepcopy(planted.intact.module)
    with torch.no_grad():
        broken.transformer.wpe.weight.normal_(std=2.0, generator=torch.Generator().manual_seed(1))
    incident = planting.record(broken, planted.incident.calls, name="inc", failure=Failure.token())
    incident = planting.with_answers(incident, planted.benign[0])
    given = {"model": Model.wrap(broken), "incident": incident}
    found = find(planted, donor_model=planted.intact, **given)
    assert str(found.fix_set) == "patch embed"
    assert found.fix_set.label == "cause"
    recorded = find(planted, **given)
    assert "embed" not in recorded.spent.pool
    embed = found.fix_set.interventions[0]
    for wrong, donor_model in (
        (embed.model_copy(update={"donor": None}), None),
        (embed.model_copy(update={"kind": "zero", "donor": None}), planted.intact),
    ):
        fix = found.fix_set.model_copy(update={"interventions": (wrong,)})
        with pytest.raises(InterventionError, match="cut through"):
            validate_fix(
                Model.wrap(broken),
                incident,
                fix,
                config=CONFIG,
                benign=planted.benign,
                donor_model=donor_model,
            )


def test_running_out_of_time_keeps_what_was_found(plant, monkeypatch):
    """The clock stops after the third look at it: every set that was run by then counts, and no other."""
    planted = plant(1, "mlp")
    times = iter([0.0, 1.0, 1.0, 1.0])
    monkeypatch.setattr("model_forensics.cca.fix_sets.time.monotonic", lambda: next(times, 100.0))
    result = find(planted, timeout_seconds=50, config=CausalConfig(max_batch_rows=4))
    assert result.spent.timed_out
    assert any("ran out of time" in warning for warning in result.warnings)
    assert 0 < result.spent.combinations < 18


def test_unknown_architectures_by_module_path(planting):
    """A hand-written classifier: no canonical sites, no tokens; the damaged layer is named by its path."""

    class Block(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = torch.nn.Linear(12, 24)
            self.down = torch.nn.Linear(24, 12)

        def forward(self, x):
            return x + self.down(torch.relu(self.up(x)))

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = torch.nn.ModuleList([Block() for _ in range(3)])
            self.head = torch.nn.Linear(12, 5)

        def forward(self, features):
            x = features
            for block in self.blocks:
                x = block(x)
            return self.head(x)

    torch.manual_seed(4)
    module = Net().eval()
    broken = copy.deepcopy(module)
    with torch.no_grad():
        broken.blocks[1].down.weight.mul_(-12.0)
    random = np.random.default_rng(0)
    calls = [{"features": random.normal(size=(4, 12)).astype(np.float32)} for _ in range(4)]
    healthy = planting.record(module, calls, name="ok")
    incident = planting.with_answers(planting.record(broken, calls, name="inc", failure=Failure.label()), healthy)
    result = find_fix_set(Model.wrap(broken), incident, config=CONFIG, benign=[healthy])
    assert result.fix_set is not None
    assert str(result.fix_set) == "patch blocks.1.down"
    assert result.fix_set.label == "cause"
    assert result.spent is not None
    assert "head" not in result.spent.pool
