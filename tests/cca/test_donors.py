"""Where patches come from: what is given is what is used, or it is an error."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from model_forensics.cca import GivenValues, find_fix_set, validate_fix
from model_forensics.config import CausalConfig
from model_forensics.errors import InterventionError, UnknownSite, UsageError
from model_forensics.failure import Failure
from model_forensics.models import Model

PATCH = CausalConfig(intervention_types=("patch",))


def find(planted, **changes):
    given = {"config": PATCH, "benign": planted.benign, **changes}
    return find_fix_set(given.pop("model", planted.broken), given.pop("incident", planted.incident), **given)


def healthy_values(planted, site="L1.mlp"):
    """What the intact model computes at the site, by sample."""
    recorded = planted.benign[0].recorded[site]
    names = [sample.sample_id for sample in planted.incident.samples]
    return {f"{name}/{site}": rows for name, rows in zip(names, recorded, strict=True)}


@pytest.mark.parametrize("source", ["arrays", "file", "bfloat16 file"])
def test_given_values_repair_and_are_validated(plant, tmp_path, source):
    planted = plant(1, "mlp")
    values = healthy_values(planted)
    if source == "arrays":
        given = GivenValues.of(values)
    else:
        dtype = torch.bfloat16 if source.startswith("bf") else torch.float32
        save_file({name: torch.from_numpy(a).to(dtype) for name, a in values.items()}, tmp_path / "values.safetensors")
        given = GivenValues.read(tmp_path / "values.safetensors")
    result = find(planted, donor_values=given)
    assert result.fix_set is not None
    assert str(result.fix_set) == "patch L1.mlp"
    assert result.fix_set.label == "workaround"  # nothing shows that the values belong to these inputs
    donor = result.fix_set.interventions[0].donor
    assert (donor.kind, donor.same_input, donor.content_digest) == ("given", False, given.digest)
    assert result.fix_set.side_effects is None  # the values of these samples say nothing about other inputs
    again = validate_fix(
        planted.broken, planted.incident, result.fix_set, config=PATCH, benign=planted.benign, donor_values=given
    )
    assert again.flips == result.fix_set.flips
    others = GivenValues.of({name: array + np.float32(1e-3) for name, array in values.items()})
    with pytest.raises(InterventionError, match="another one"):
        validate_fix(planted.broken, planted.incident, result.fix_set, config=PATCH, donor_values=others)


def test_one_vector_is_written_at_every_token_of_every_input(plant):
    planted = plant(1, "mlp")
    mean = np.concatenate(planted.benign[0].recorded["L1.mlp"]).mean(axis=0)
    result = find(planted, donor_values=GivenValues.of({"L1.mlp": mean}))
    given = [result.fix_set, *result.workarounds, result.best_effect]
    found = next(fix for fix in given if fix is not None)
    assert found.side_effects is not None  # it can be written into benign runs as well
    assert found.side_effects.samples == sum(len(recording.samples) for recording in planted.benign)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "no donor values"),
        ({"L1.mlp": np.zeros(32, np.int64)}, "int64"),
        ({"L1.mlp": torch.zeros(32)}, "Tensor"),
        ({"L1.mlp": np.full(32, np.nan)}, "NaN or Inf"),
        ({"L1.mlp": np.zeros((1, 1, 32))}, "shape"),
        ({"L1.mlp": np.zeros((0, 32))}, "shape"),
        ({"L1.mlp": np.zeros(16)}, "shape"),
        ({"L1.mlp": np.zeros((3, 32))}, "shape"),
        ({"L1.mlp": np.full(32, 0.1)}, "float32 here"),
        ({"L1.resid": np.zeros(32)}, "no candidate"),
        ({"L7.mlp": np.zeros(32)}, "no candidate"),
        ({"nobody/L1.mlp": np.zeros(32)}, "does not hold"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_given_values_that_do_not_fit(plant, values, words):
    with pytest.raises(InterventionError, match=words):
        find(plant(1, "mlp"), donor_values=GivenValues.of(values))


@pytest.mark.parametrize("content", [None, b"", b"pickle"])
def test_files_that_hold_no_values(tmp_path, content):
    path = tmp_path / "values.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InterventionError):
        GivenValues.read(path)


def of_equal_length(planting, planted):
    """The incident with samples of 4 tokens, one benign sample of 4 and one of 5."""

    def unpadded(ids):
        return {"input_ids": ids, "attention_mask": np.ones_like(ids)}

    calls = [unpadded(call["input_ids"][:, :4]) for call in planting.batches(9)]
    intact, broken = planted.intact, planted.broken
    healthy = planting.record(intact, calls, name="healthy")
    incident = planting.record(broken, calls, name="incident", failure=Failure.token())
    others = [np.full((1, 4), 7), np.full((1, 5), 7)]
    benign = planting.record(intact, [unpadded(ids) for ids in others], name="ok")
    return planting.with_answers(incident, healthy), benign


def test_a_benign_sample_is_patched_by_position_only_when_it_is_named(plant, planting):
    planted = plant(1, "mlp")
    incident, benign = of_equal_length(planting, planted)
    with pytest.raises(InterventionError, match="no site has a donor"):  # equal length alone declares nothing
        find(planted, incident=incident, benign=[benign])
    with pytest.raises(InterventionError, match="no benign sample has the same input"):
        find(
            planted,
            incident=incident,
            benign=[benign],
            config=CausalConfig(intervention_types=("patch",), donor="benign_sample"),
        )

    def named(name):
        config = CausalConfig(intervention_types=("patch",), donor="benign_sample", donor_sample=name)
        return find(planted, incident=incident, benign=[benign], config=config)

    for name in ("ok-0", "ok/ok-0"):
        result = named(name)
        found = [fix for fix in (result.fix_set, *result.workarounds, result.best_effect) if fix is not None]
        assert found
        assert all(fix.label != "cause" and fix.interventions[0].donor.kind == "benign_sample" for fix in found)
        assert all(fix.side_effects is None for fix in found)  # that sample did not run on the other inputs
    with pytest.raises(InterventionError, match="5 tokens"):
        named("ok-1")
    with pytest.raises(InterventionError, match="no benign samples are named"):
        named("ok-9")


def test_the_benign_sample_of_the_same_input_can_be_named(plant, planting):
    planted = plant(1, "mlp")
    incident = copy.deepcopy(planted.incident)
    call = {name: array[:1] for name, array in incident.calls[0].items()}
    healthy = planting.record(planted.intact, [call], name="ok")
    incident = planting.with_answers(
        planting.record(planted.broken, [call], name="x", failure=Failure.token()), healthy
    )
    config = CausalConfig(intervention_types=("patch",), donor="benign_sample", donor_sample="ok-0")
    result = find(planted, incident=incident, benign=[healthy], config=config)
    assert result.fix_set is not None
    assert result.fix_set.interventions[0].donor.same_input
    assert result.fix_set.label == "cause"


def test_donors_that_contradict_one_another(plant):
    planted = plant(1, "mlp")
    given = {
        "donor_model": planted.intact,
        "contrast": planted.benign[0],
        "donor_values": GivenValues.of({"L1.mlp": np.zeros(32)}),
    }
    for first, second in (("donor_model", "contrast"), ("donor_model", "donor_values"), ("contrast", "donor_values")):
        with pytest.raises(UsageError, match="patches have one donor"):
            find(planted, **{name: given[name] for name in (first, second)})
    with pytest.raises(UsageError, match="'given' is asked for and not given"):
        find(planted, config=CausalConfig(donor="given"))
    with pytest.raises(UsageError, match="given is given too"):
        find(planted, donor_values=given["donor_values"], config=CausalConfig(donor="benign_sample"))


def test_a_contrast_says_nothing_about_benign_inputs(plant, planting):
    planted = plant(1, "mlp")
    shifted = [{**call, "input_ids": (call["input_ids"] + 1) % planting.VOCABULARY} for call in planted.incident.calls]
    contrast = planting.record(planted.intact, shifted, name="contrast")
    result = find(planted, contrast=contrast)
    found = [fix for fix in (result.fix_set, *result.workarounds, result.best_effect) if fix is not None]
    assert found
    assert all(fix.side_effects is None for fix in found)
    assert all(fix.interventions[0].donor.kind == "contrast" for fix in found)


@pytest.mark.parametrize("kind", ["benign", "contrast", "donor model"])
def test_a_donor_of_another_tokenizer_is_refused(plant, kind):
    planted = plant(1, "mlp")

    def of(recording, digest):
        changed = copy.deepcopy(recording)
        changed.model = recording.model.model_copy(update={"tokenizer_digest": digest})
        return changed

    class Letters:
        def get_vocab(self):
            return {"a": 0}

    incident = of(planted.incident, "sha256:ours")
    other = of(planted.benign[0], "sha256:theirs")
    given = {
        "benign": {"benign": [other]},
        "contrast": {"benign": [], "contrast": other},
        "donor model": {"donor_model": Model.wrap(planted.intact.module, tokenizer=Letters())},
    }[kind]
    with pytest.raises(InterventionError, match="tokenizer"):
        find(planted, incident=incident, **given)
    assert find(planted, incident=incident, benign=[of(planted.benign[0], "sha256:ours")]).fix_set is not None


@pytest.mark.parametrize("kind", ["patch", "mean"])
def test_donors_that_are_not_finite_are_refused(plant, kind):
    planted = plant(1, "mlp")
    benign = [copy.deepcopy(recording) for recording in planted.benign]
    benign[0].recorded["L2.attn"][3][0, 0] = np.inf
    with pytest.raises(InterventionError, match="NaN or Inf") as caught:
        find(planted, benign=benign, config=CausalConfig(intervention_types=(kind,)))
    assert caught.value.where == "L2.attn"


def test_benign_samples_that_fail_themselves_are_no_donors(plant, planting):
    planted = plant(1, "mlp")
    failing = planting.record(planted.broken, planted.incident.calls, name="failing")
    with pytest.raises(InterventionError, match="no site has a donor"):
        find(planted, benign=[failing])
    result = find(planted, benign=[failing], config=CausalConfig(intervention_types=("zero", "mean")))
    assert any("fail as the incident does" in warning for warning in result.warnings)


def test_a_site_that_the_model_does_not_have_is_not_validated(plant):
    planted = plant(1, "mlp")
    fix = find(planted).fix_set
    missing = fix.model_copy(update={"interventions": (fix.interventions[0].model_copy(update={"site": "L9.mlp"}),)})
    with pytest.raises(UnknownSite):
        validate_fix(planted.broken, planted.incident, missing, config=PATCH, benign=planted.benign)


def test_a_model_without_components(planting):
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.only = torch.nn.Linear(4, 3)

        def forward(self, features):
            return self.only(features)

    model = Model.wrap(Net())
    call = {"features": np.ones((2, 4), np.float32)}
    answer = int(np.argmax(planting.record(model, [call], name="x").logged[0]["logits"]))
    incident = planting.record(model, [call], name="inc", failure=Failure.label(wrong=[answer]))
    with pytest.raises(InterventionError, match="no component"):
        find_fix_set(model, incident, config=CausalConfig())
