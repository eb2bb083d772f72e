"""The zoo's own parts: what it plants, how it finds the truth, and how it counts."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from torch import nn

transformers = pytest.importorskip("transformers")

from bench.zoo import loading, make, truth  # noqa: E402
from bench.zoo.calibration import calibration  # noqa: E402
from bench.zoo.intervals import resampled  # noqa: E402
from bench.zoo.judged import judge  # noqa: E402
from bench.zoo.kind import Case, Kind, Planted, Unplantable  # noqa: E402
from bench.zoo.kinds import all_kinds, backdoor, injected_instruction  # noqa: E402
from bench.zoo.networks import NETWORKS, language  # noqa: E402
from bench.zoo.networks.digits import vision_transformer  # noqa: E402
from bench.zoo.parts import COMPONENTS, layers_of, part  # noqa: E402
from bench.zoo.plan import entries  # noqa: E402
from bench.zoo.score import Share  # noqa: E402
from model_forensics.demo.train import new_model  # noqa: E402
from model_forensics.failure import Failure  # noqa: E402
from model_forensics.models import Model  # noqa: E402


@pytest.fixture(scope="module", params=["gpt2", "llama", "digits"])
def untrained(request) -> nn.Module:
    torch.manual_seed(0)
    build = {"gpt2": language.gpt2, "llama": language.llama, "digits": vision_transformer}[request.param]
    return build().eval()


def test_the_plan_has_what_the_zoo_promises():
    planned = list(entries())
    faulty = {one.kind for one in planned if all_kinds()[one.kind].family != "healthy"}
    assert len({one.name for one in planned}) == len(planned)
    for kind in faulty:
        assert len({one.seed for one in planned if one.kind == kind}) >= 8
    splits = {(one.seed, one.split) for one in planned if one.kind in faulty}
    assert len(splits) == len({seed for seed, _ in splits}), "whole seeds"
    assert sum(one.split == "test" for one in planned) >= 100
    assert sum(one.kind not in faulty for one in planned) >= 60
    assert 0.4 < np.mean([one.reference for one in planned]) < 0.6
    assert not any(one.reference and one.same_requests for one in planned)


def test_seeds_of_one_s_own_are_incidents_and_networks_that_the_zoo_has_not():
    planned, own = list(entries()), list(entries([11, 12]))
    assert {one.split for one in own} == {"other"}
    assert not {one.name for one in own} & {one.name for one in planned}
    assert not {(one.network, one.training) for one in own} & {(one.network, one.training) for one in planned}
    assert {one.kind for one in own} == {one.kind for one in planned}
    assert list(entries([2])) == [one for one in planned if one in entries([2])]


@pytest.mark.parametrize("kind", COMPONENTS)
def test_a_part_s_weights_are_views_of_the_module(untrained, kind):
    module = copy.deepcopy(untrained)
    for layer in range(layers_of(module)):
        chosen = part(module, layer, kind)
        site = Model.wrap(module).sites.get(chosen.site)
        before = {name: value.clone() for name, value in module.state_dict().items()}
        chosen.weight(chosen.writer)[0] += 1
        changed = [name for name, value in module.state_dict().items() if not torch.equal(value, before[name])]
        assert changed == [f"{site.module}.weight"], "the writer's output is the site"
        assert len(set(loading.differences(module, untrained))) == layer + 1


def test_the_smallest_sets_are_found_by_running_them():
    found = [
        truth.Repaired(("a",), 1, 10, 0.5, 1.0),
        truth.Repaired(("b",), 8, 10, 0.5, 1.0),
        truth.Repaired(("c",), 0, 10, 0.01, 1.0),
        truth.Repaired(("a", "b"), 10, 10, 0.05, 1.0),
        truth.Repaired(("a", "c"), 9, 10, 0.5, 1.0),
        truth.Repaired(("b", "c"), 10, 10, 0.2, 1.0),
        truth.Repaired(("a", "b", "c"), 10, 10, 0.0, 1.0),
    ]
    assert truth.minimal(found) == [("b",), ("a", "c")]
    assert truth.restoring(found) == [("a", "b")], "c alone restores what is no repair"


def test_a_damaged_component_repairs_and_an_untouched_one_does_not():
    network = NETWORKS["gpt2"]
    torch.manual_seed(1)
    healthy = language.gpt2().eval()
    module = copy.deepcopy(healthy)
    damaged = part(module, 1, "mlp")
    damaged.weight(damaged.writer).mul_(-20)
    random = np.random.default_rng(0)
    # An untrained network is right where it says what the healthy one says.
    asked = [
        prompt.__class__(prompt.inputs, make.answer(healthy, prompt), prompt.text)
        for prompt in network.prompts(random, 200)
    ]
    failing = [prompt for prompt in asked if make.answer(module, prompt) != prompt.right][:8]
    assert len(failing) == 8
    found = truth.repairs(module, healthy, failing, Failure.token(), ["L1.mlp", "L0.mlp"])
    assert [one.sites for one in found] == [("L1.mlp",), ("L0.mlp",), ("L1.mlp", "L0.mlp")]
    assert [one.flips for one in found] == [8, 0, 8]
    assert [one.residual < 1e-6 for one in found] == [True, False, True]
    assert [one.recovery > 0.999 for one in found] == [True, False, True]
    assert truth.minimal(found) == truth.restoring(found) == [("L1.mlp",)]


def _double_output(module: nn.Module, layer: int) -> None:
    part(module, layer, "mlp").writer.register_forward_hook(lambda _module, _inputs, output: 2 * output)


def test_a_model_is_loaded_with_its_weights_and_its_software_damage(tmp_path, monkeypatch):
    network = NETWORKS["llama"]
    torch.manual_seed(2)
    healthy = language.llama().eval()
    network.save(healthy, tmp_path / "healthy")
    module = copy.deepcopy(healthy)
    changed_part = part(module, 0, "attn")
    changed_part.weight(changed_part.writer).mul_(3)
    changed = loading.differences(module, healthy)
    assert list(changed) == ["model.layers.0.self_attn.o_proj.weight"]
    kind = Kind("doubled", "software", ("llama",), lambda case: Planted("doubled"), install=_double_output)
    monkeypatch.setattr(loading, "all_kinds", lambda: {"doubled": kind})
    loading.store(tmp_path / "model", "llama", "../healthy", "doubled", {"layer": 2}, changed)
    _double_output(module, 2)
    prompt = network.prompts(np.random.default_rng(0), 1)[0]
    with torch.no_grad():
        ours, theirs = module(**prompt.inputs).logits, loading.build(str(tmp_path / "model"))(**prompt.inputs).logits
        assert torch.equal(ours, theirs)
        assert not torch.equal(ours, healthy(**prompt.inputs).logits)


@pytest.mark.parametrize("skill", range(len(language.SKILLS)))
@pytest.mark.parametrize("length", language.LENGTHS)
def test_every_question_has_its_answer_in_the_text(skill, length):
    random = np.random.default_rng(3)
    for _ in range(20):
        drawn = language.draw(random, skill, length)
        assert len(drawn.tokens) == length
        question, body = drawn.tokens[-1], drawn.tokens[:-1].tolist()
        assert max(drawn.tokens) < language.SPARE
        if language.SKILLS[skill] == "agreement":
            nouns = [token for token in body if language.FIRST_NOUN <= token < language.FIRST_FILLER]
            assert drawn.answer == language.FIRST_FORM + (nouns[0] - language.FIRST_NOUN) // language.NOUNS_A_CLASS
        else:
            assert drawn.answer == body[body.index(question) + 1]


def test_what_is_random_comes_from_the_seed():
    for network in NETWORKS.values():
        first, second = (network.prompts(np.random.default_rng(7), 5) for _ in range(2))
        assert [prompt.text for prompt in first] == [prompt.text for prompt in second]
        for one, other in zip(first, second, strict=True):
            assert all(torch.equal(value, other.inputs[name]) for name, value in one.inputs.items())


# Two faults at once are planted until running them shows what they are together, which untrained networks never do.
@pytest.mark.parametrize(
    "kind", [kind for kind in all_kinds().values() if kind.family != "several"], ids=lambda kind: kind.name
)
def test_a_kind_plants_the_same_fault_twice_and_says_where(kind, monkeypatch):
    # What an untrained network is right about is chance, and no training leaves it so.
    monkeypatch.setattr(backdoor, "STEALTH", 0)
    monkeypatch.setattr(injected_instruction, "HARMLESS", 0)
    torch.manual_seed(0)
    build = {"gpt2": language.gpt2, "llama": language.llama, "lookup": new_model, "digits": vision_transformer}
    name = next((one for one in kind.networks if one in build), None)
    if name is None:
        pytest.skip("its networks are not made without training")
    healthy, earlier = (build[name]().eval() for _ in range(2))
    planted = []
    for _ in range(2):
        module = copy.deepcopy(healthy)
        case = Case(NETWORKS[name], healthy, module, earlier, np.random.default_rng(5))
        planted.append((kind.plant(case), loading.differences(module, healthy)))
    (first, changed), (second, again) = planted
    assert (first.how, first.sites) == (second.how, second.sites)
    assert changed.keys() == again.keys()
    assert all(torch.equal(value, again[name]) for name, value in changed.items())
    assert json.loads(json.dumps(first.software)) == first.software
    assert (first.software is not None) <= (kind.install is not None)
    known = {tap.name for tap in Model.wrap(healthy).sites.select("components")}
    assert set(first.sites) <= known


@pytest.mark.parametrize("kind", [backdoor, injected_instruction])
def test_an_attack_that_breaks_what_it_does_not_aim_at_is_not_planted(kind, monkeypatch):
    monkeypatch.setattr(kind, "ATTEMPTS", 2)
    monkeypatch.setattr(kind, "STEPS", 1)
    monkeypatch.setattr(kind, "rights", lambda module, prompts: torch.arange(100) < 96)
    monkeypatch.setattr(backdoor, "right_prompts", lambda network, healthy, random: network.prompts(random, 3))
    torch.manual_seed(0)
    healthy = language.gpt2().eval()
    case = Case(NETWORKS["gpt2"], healthy, copy.deepcopy(healthy), healthy, np.random.default_rng(5))
    with pytest.raises(Unplantable, match=r"none of 2 .*left the other prompts right"):
        kind.plant(case)
    monkeypatch.setattr(kind, "rights", lambda module, prompts: torch.arange(100) < 97)
    assert kind.plant(case).sites


def test_where_a_network_notices_no_fault_the_kind_s_next_one_takes_its_place(tmp_path, monkeypatch):
    asked = []

    def noticed_in_digits(root, place, kind, entry):
        asked.append(entry.network)
        if entry.network != "digits":
            raise Unplantable(f"not in {entry.network}")

    monkeypatch.setattr(make, "_make", noticed_in_digits)
    entry = next(one for one in entries() if one.kind == "transposed" and one.network == "llama")
    assert make.make(tmp_path, entry) == tmp_path / "incidents" / entry.name
    order = all_kinds()["transposed"].networks
    start = order.index("llama")
    expected = [*order[start:], *order[:start]]
    assert asked == expected[: expected.index("digits") + 1]
    entry = next(one for one in entries() if one.kind == "mask_off_by_one")
    with pytest.raises(Unplantable, match=r"not in .*; not in "):
        make.make(tmp_path, entry)


@pytest.fixture
def written(tmp_path):
    """Writes what `make` and `run` write of one incident, and judges it."""
    entry = next(iter(entries()))

    def write(damaged, minimal, sites, *, label="cause", onset="L1.attn", restoring=(), diffuse=False):
        place = tmp_path / "incidents" / entry.name
        place.mkdir(parents=True, exist_ok=True)
        told = {
            "family": "weights", "network": "gpt2", "reference": False, "damaged": damaged, "minimal_fix_sets": minimal,
            "restoring_sets": restoring, "diffuse": diffuse,
        }  # fmt: skip
        (place / "truth.json").write_text(json.dumps(told))
        fix = {
            "label": label, "in_sample": False, "necessity": [0.25], "groups": 12,
            "interventions": [{"site": site} for site in sites],
            "side_effects": {"changed_rate": 0.25},
        }  # fmt: skip
        rows = [
            {"site": site, "is_anomalous": score > 3, "rank_score": score, "given_upstream": 10**-score,
             "integrity": {"nan": 0, "inf": 0, "flags": []}}
            for site, score in (("L0.attn", 1.0), ("L1.attn", 4.0), ("L1.mlp", 9.0), ("L2.mlp", 5.0), ("L3.mlp", 6.0))
        ]  # fmt: skip
        result = {
            "verdict": "cause_found", "fix_set": fix if sites else None, "compression_metrics": rows,
            "onset": {"site": onset}, "strongest": {"site": "L1.mlp"},
            "confidence": 0.7 if sites and label == "cause" else None,
            "evidence": {"search": {"forwards": 100}, "largest_change": 0.5},
        }  # fmt: skip
        results = tmp_path / "results"
        results.mkdir(exist_ok=True)
        (results / f"{entry.name}.json").write_text(json.dumps(result))
        spent = {
            "seconds": 2.0,
            "cpu_seconds": 1.0,
            "refused": None,
            "commit": None,
            "rankings": {"zlib": ["L1.mlp"], "weights": None},
        }
        (results / f"{entry.name}.run.json").write_text(json.dumps(spent))
        return judge(tmp_path, entry)

    return write


def test_a_cause_is_named_where_the_set_is_a_smallest_one(written):
    one = written(["L1.attn", "L1.mlp"], [["L1.mlp"]], ["L1.mlp"])
    assert (one.fix_found, one.named, one.layer_named) == (True, True, True)
    assert (one.onset, one.onset_top, one.strongest, one.strongest_top) == ((True, True), True, (True, True), True)
    assert (one.changed, one.alarm, one.rivals) == (0.25, None, {"zlib": True, "weights": None})


def test_a_set_that_restores_and_is_no_smallest_one_is_counted_apart(written):
    both = written(["L1.attn", "L1.mlp"], [["L1.mlp"]], ["L1.attn", "L1.mlp"], restoring=[["L1.attn", "L1.mlp"]])
    assert (both.named, both.named_or_restores, both.layer_named) == (False, True, True)
    one = written(["L1.attn", "L1.mlp"], [["L1.mlp"]], ["L1.mlp"], restoring=[["L1.attn", "L1.mlp"]])
    assert (one.named, one.named_or_restores) == (True, True)


def test_the_input_is_the_embedding_and_departing_sites_are_taken_in_their_order(written):
    embedding = written(["embed"], [["embed"]], ["embed"], onset="input")
    assert (embedding.onset, embedding.onset_top) == ((True, True), False)
    third = written(["L2.mlp"], [["L2.mlp"]], ["L2.mlp"])
    assert (third.onset, third.onset_top) == ((False, False), True)
    fourth = written(["L3.mlp"], [["L3.mlp"]], ["L3.mlp"])
    assert (fourth.onset, fourth.onset_top) == ((False, False), False)


def test_another_set_or_a_workaround_names_nothing(written):
    larger = written(["L1.mlp"], [["L1.mlp"]], ["L1.mlp", "L2.mlp"])
    assert (larger.fix_found, larger.named, larger.layer_named) == (True, False, False)
    beside = written(["L1.mlp"], [["L1.mlp"]], ["L1.attn"], onset="input")
    assert (beside.named, beside.layer_named, beside.onset) == (False, True, (False, False))
    workaround = written(["L1.mlp"], [["L1.mlp"]], ["L1.mlp"], label="workaround")
    assert (workaround.fix_found, workaround.named, workaround.layer_named) == (True, False, False)
    nothing = written(["L1.mlp"], [["L1.mlp"]], [])
    assert (nothing.fix_found, nothing.named, nothing.changed) == (False, False, None)


def test_of_a_diffuse_fault_no_cause_is_asked(written):
    one = written(["L1.attn", "L1.mlp"], [["L1.mlp"]], [], diffuse=True)
    assert (one.fix_exists, one.fix_found, one.named, one.layer_named) == (False, None, None, None)
    assert one.onset == (True, True)


def test_where_nothing_is_wrong_a_cause_is_an_alarm(written):
    alarm = written([], [], ["L1.mlp"])
    assert (alarm.alarm, alarm.named, alarm.fix_found, alarm.onset, alarm.rivals["zlib"]) == (True,) + (None,) * 4
    assert written([], [], ["L1.mlp"], label="workaround").alarm is False
    assert written([], [], []).alarm is False


def test_shares_count_what_applies():
    assert Share.over([None, None]) == Share(0, 0, None, None)
    share = Share.over([True, False, None, True])
    assert (share.hits, share.of) == (2, 3)
    assert share.low == pytest.approx(0.094299, abs=1e-5)
    assert share.high == pytest.approx(0.991596, abs=1e-5)


def test_a_median_s_interval_holds_the_truth_as_often_as_it_says():
    random = np.random.default_rng(0)
    held = [resampled(lambda values: float(np.median(values)), random.exponential(size=60)) for _ in range(100)]
    inside = sum(low <= np.log(2) <= high for low, high in filter(None, held))
    assert 88 <= inside <= 99
    assert resampled(lambda values: 1.0, np.zeros(4)) is None
    assert resampled(lambda values: None, np.zeros(40)) is None


def test_calibration_tells_a_good_confidence_from_a_bad_one():
    random = np.random.default_rng(0)
    chance = random.uniform(size=4000)
    right = random.uniform(size=4000) < chance
    good = calibration(chance, right)
    assert good is not None
    assert good.error < 0.04
    assert good.auroc == pytest.approx(5 / 6, abs=0.02)  # of a uniform probability
    assert good.brier == pytest.approx(1 / 6, abs=0.01)
    assert good.brier < good.base_rate_brier
    low, high = good.intervals["auroc"] or (0, 0)
    assert 5 / 6 - 0.03 < low < good.auroc < high < 5 / 6 + 0.03
    assert high - low == pytest.approx(2 * 1.96 * 0.0064, rel=0.2)  # Hanley and McNeil 1982, of 2,000 and 2,000
    bad = calibration(1 - chance, right)
    assert bad is not None
    assert (bad.error, bad.auroc) == (pytest.approx(0.5, abs=0.05), pytest.approx(1 / 6, abs=0.02))
    assert calibration(chance[:9], right[:9]) is None
    alike = calibration(np.full(20, 0.5), np.arange(20) % 2 == 0)
    assert alike is not None
    assert alike.auroc == 0.5
