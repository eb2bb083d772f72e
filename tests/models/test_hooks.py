"""Edits do what they say, and nothing stays behind."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from model_forensics.errors import InterventionError, ModelError, UnknownSite
from model_forensics.models import Model, hooks

FAMILIES = ("gpt2", "llama", "qwen2", "qwen3", "mistral", "bert", "vit")


def count_hooks(module):
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules())


@pytest.mark.parametrize("family", FAMILIES)
def test_identity_edits_change_no_bit(family, build, example):
    model = Model.wrap(build(family))
    inputs = example(family)
    plain = model.forward(inputs)
    taps = [*model.sites.taps, model.sites.get("L0.neuron3")]
    with hooks.edit(model.module, {tap: lambda value: value.clone() for tap in taps}):
        edited = model.forward(inputs)
    assert torch.equal(plain, edited)
    assert count_hooks(model.module) == 0


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("heads", [(2,), (0, 3)])
def test_zeroing_heads_equals_zeroing_their_weights(family, heads, build, example):
    model = Model.wrap(build(family))
    inputs = example(family)
    plain = model.forward(inputs)
    taps = [model.sites.get(f"L1.head{head}") for head in heads]
    with hooks.edit(model.module, dict.fromkeys(taps, torch.zeros_like)):
        edited = model.forward(inputs)
    projection = model.module.get_submodule(taps[0].module)
    with torch.no_grad():
        for tap in taps:
            if isinstance(projection, nn.Linear):
                projection.weight[:, tap.start : tap.stop] = 0
            else:  # GPT-2's projection is transposed
                projection.weight[tap.start : tap.stop] = 0
    torch.testing.assert_close(edited, model.forward(inputs))
    assert not torch.equal(edited, plain)


@pytest.mark.parametrize("family", FAMILIES)
def test_patching_every_site_with_another_runs_values_gives_that_run(family, build, example):
    model = Model.wrap(build(family))
    donor_inputs = example(family)
    inputs = {name: value.flip(0) for name, value in donor_inputs.items()}
    for name in ("embed", "L2.resid", "logits"):
        tap = model.sites.get(name)
        donor = []
        with hooks.read(model.module, [tap], lambda _tap, value, donor=donor: donor.append(value.clone())):
            expected = model.forward(donor_inputs)
        with hooks.edit(model.module, {tap: lambda _value, donor=donor: donor[0]}):
            assert torch.equal(model.forward(inputs), expected), name


def test_reading_inside_an_edit_sees_the_edited_value(build, example):
    model = Model.wrap(build("llama"))
    tap = model.sites.get("L1.mlp")
    seen = []
    with (
        hooks.edit(model.module, {tap: lambda value: torch.full_like(value, 3.0)}),
        hooks.read(model.module, [tap], lambda _tap, value: seen.append(value)),
    ):
        model.forward(example("llama"))
    assert torch.all(seen[0] == 3.0)


def test_an_edit_changes_nothing_in_place(build, example):
    model = Model.wrap(build("gpt2"))
    head = model.sites.get("L0.head1")
    before = []
    with (
        hooks.read(model.module, [head], lambda _tap, value: before.append((value, value.clone()))),
        hooks.edit(model.module, {head: torch.zeros_like}),
    ):
        model.forward(example("gpt2"))
    live, copy = before[0]
    assert torch.equal(live, copy)


def test_gradients_pass_through_edits(build, example):
    model = Model.wrap(build("llama"))
    scale = torch.ones((), requires_grad=True)
    edits = {model.sites.get(f"L0.head{head}"): (lambda value: value * scale) for head in range(4)}
    with hooks.edit(model.module, edits):
        model.module(**example("llama")).logits.sum().backward()
    assert scale.grad is not None
    assert torch.isfinite(scale.grad)


def test_hooks_are_removed_when_the_model_raises(build):
    model = Model.wrap(build("gpt2"))
    taps = model.sites.taps
    with (
        pytest.raises(IndexError),
        hooks.read(model.module, taps, lambda _tap, _value: None),
        hooks.edit(model.module, {taps[3]: lambda value: value}),
    ):
        model.forward({"input_ids": torch.tensor([[10_000]])})
    assert count_hooks(model.module) == 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda value: value[:, :-1], "shape"),
        (lambda value: value.mean(dim=1, keepdim=True), "shape"),
        (lambda value: value.long(), "int64"),
        (lambda value: value.to("meta"), "meta"),
        (lambda _value: None, "NoneType"),
    ],
)
def test_an_edit_that_does_not_fit_is_refused(wrong, message, build, example):
    model = Model.wrap(build("gpt2"))
    for name in ("L1.mlp", "L1.head2"):
        edits = {model.sites.get(name): wrong}
        with pytest.raises(InterventionError, match=message), hooks.edit(model.module, edits):
            model.forward(example("gpt2"))
    assert count_hooks(model.module) == 0


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.used = nn.Linear(4, 4)
        self.unused = nn.Linear(4, 4)

    def forward(self, x):
        return {"logits": self.used(x), "extra": x}


def test_an_edit_of_a_site_that_is_not_computed_is_refused():
    model = Model.wrap(Unused())
    edits = {model.sites.get("unused"): torch.zeros_like}
    with pytest.raises(InterventionError, match="without computing"), hooks.edit(model.module, edits):
        model.forward({"x": torch.randn(2, 4)})


def test_logits_in_a_mapping_are_replaced_and_the_rest_is_kept():
    model = Model.wrap(Unused())
    x = torch.randn(2, 4)
    with hooks.edit(model.module, {model.sites.get("logits"): torch.zeros_like}):
        output = model.module(x=x)
    assert torch.equal(output["logits"], torch.zeros(2, 4))
    assert output["extra"] is x


class Nothing(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(1, 1)

    def forward(self, x):
        self.inner(x)
        return "words"


def test_a_model_without_a_tensor_output_is_refused():
    with pytest.raises(ModelError, match="no tensor"):
        Model.wrap(Nothing()).forward({"x": torch.zeros(1, 1)})


def test_half_precision_edits_are_cast_to_the_sites_dtype(build, example):
    model = Model.wrap(build("llama").to(torch.bfloat16))
    tap = model.sites.get("L1.mlp")
    with hooks.edit(model.module, {tap: lambda value: value.float()}):
        edited = model.forward(example("llama"))
    assert torch.equal(edited, model.forward(example("llama")))
    assert edited.dtype == torch.bfloat16


def test_writes_change_values_in_place_and_leave_nothing(build, example):
    model = Model.wrap(build("llama"))
    inputs = example("llama")
    plain = model.forward(inputs)
    tap = model.sites.get("L1.mlp")
    head = model.sites.get("L1.head1")

    def zero_head(value):
        value[..., head.start : head.stop] = 0

    with hooks.edit(model.module, {tap: torch.zeros_like, head: torch.zeros_like}):
        expected = model.forward(inputs)
    with hooks.write(model.module, {(tap.module, "output"): lambda v: v.zero_(), (head.module, "input"): zero_head}):
        assert torch.equal(model.forward(inputs), expected)
    assert torch.equal(model.forward(inputs), plain)
    assert count_hooks(model.module) == 0
    with pytest.raises(UnknownSite), hooks.write(model.module, {("nowhere", "output"): lambda v: None}):
        pass
