"""The sites of every family are the tensors that their names promise."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from model_forensics.errors import UnknownSite
from model_forensics.models import Model, hooks

CAUSAL = ("gpt2", "llama", "qwen2", "qwen3", "mistral")
FAMILIES = (*CAUSAL, "bert", "vit")


def values_of(model, names, inputs):
    found = {}
    taps = [model.sites.get(name) for name in names]
    with hooks.read(model.module, taps, lambda tap, value: found.__setitem__(tap.name, value.detach().clone())):
        found["output"] = model.forward(inputs)
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_shapes_and_order(family, build, example):
    model = Model.wrap(build(family))
    assert model.sites.family == {"qwen2": "llama", "qwen3": "llama", "mistral": "llama"}.get(family, family)
    assert (model.sites.layers, model.sites.heads, model.sites.width) == (3, 4, 16)
    names = [tap.name for tap in model.sites.taps]
    expected = ["embed"]
    for layer in range(3):
        expected += [f"L{layer}.head{head}" for head in range(4)]
        expected += [f"L{layer}.{kind}" for kind in ("attn", "mlp", "resid")]
    expected += ([] if family == "bert" else ["final_norm"]) + ["logits"]
    assert names == expected
    computed = []
    with hooks.read(model.module, model.sites.taps, lambda tap, value: computed.append((tap, value.shape[-1]))):
        model.forward(example(family))
    assert [tap.name for tap, _ in computed] == expected, "taps are in execution order"
    assert all(tap.features == size for tap, size in computed)
    assert [tap.order for tap in model.sites.taps] == sorted(tap.order for tap in model.sites.taps)


@pytest.mark.parametrize("family", [*CAUSAL, "vit"])
def test_contributions_add_up_to_the_residual_stream(family, build, example):
    model = Model.wrap(build(family))
    parts = [f"L{layer}.{kind}" for layer in range(3) for kind in ("attn", "mlp")]
    values = values_of(model, ["embed", *parts, "L0.resid", "L2.resid"], example(family))
    first = values["embed"] + values["L0.attn"] + values["L0.mlp"]
    torch.testing.assert_close(first, values["L0.resid"], rtol=1e-5, atol=1e-5)
    total = values["embed"] + sum(values[part] for part in parts)
    torch.testing.assert_close(total, values["L2.resid"], rtol=1e-5, atol=1e-5)


def test_bert_contributions_are_taken_before_the_post_norm(build, example):
    model = Model.wrap(build("bert"))
    values = values_of(model, ["embed", "L0.attn", "L0.mlp", "L0.resid"], example("bert"))
    block = model.module.bert.encoder.layer[0]
    middle = block.attention.output.LayerNorm(values["embed"] + values["L0.attn"])
    torch.testing.assert_close(block.output.LayerNorm(middle + values["L0.mlp"]), values["L0.resid"])


@pytest.mark.parametrize("family", FAMILIES)
def test_heads_make_up_the_attention_output(family, build, example):
    model = Model.wrap(build(family))
    names = [f"L1.head{head}" for head in range(4)]
    values = values_of(model, [*names, "L1.attn"], example(family))
    projection = model.module.get_submodule(model.sites.get("L1.attn").module)
    joined = projection(torch.cat([values[name] for name in names], dim=-1))
    torch.testing.assert_close(joined, values["L1.attn"])


@pytest.mark.parametrize("family", FAMILIES)
def test_neurons_are_columns_of_the_last_projections_input(family, build, example):
    model = Model.wrap(build(family))
    tap = model.sites.get("L2.neuron5")
    assert (tap.kind, tap.layer, tap.index, tap.features, tap.side) == ("neuron", 2, 5, 1, "input")
    seen = []
    projection = model.module.get_submodule(tap.module)
    handle = projection.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    values = values_of(model, ["L2.neuron5"], example(family))
    handle.remove()
    assert torch.equal(values["L2.neuron5"], seen[0][..., 5:6])
    with pytest.raises(UnknownSite):
        model.sites.get("L2.neuron999999")


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_what_the_model_returns(family, build, example):
    model = Model.wrap(build(family))
    values = values_of(model, ["logits"], example(family))
    assert torch.equal(values["logits"], values["output"])


def test_gpt2_embedding_includes_positions(build, example):
    model = Model.wrap(build("gpt2"))
    inputs = example("gpt2")
    transformer = model.module.transformer
    expected = transformer.wte(inputs["input_ids"]) + transformer.wpe(torch.arange(7))
    assert torch.equal(values_of(model, ["embed"], inputs)["embed"], expected)


class Sentence(nn.Module):
    """A sentence classifier around an encoder, as a factory builds it."""

    def __init__(self, encoder):
        super().__init__()
        self.labels = nn.Parameter(torch.randn(5, 16))
        self.encoder = encoder

    def forward(self, input_ids, attention_mask=None):
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return nn.functional.normalize(hidden.mean(dim=1), dim=-1) @ self.labels.T


def test_an_encoder_inside_a_wrapper_keeps_its_names(build, example):
    model = Model.wrap(Sentence(build("bert").bert))
    assert model.sites.family == "bert"
    assert model.sites.get("L2.mlp").module == "encoder.encoder.layer.2.output.dense"
    values = values_of(model, ["L0.head1", "logits"], example("bert"))
    assert values["L0.head1"].shape == (2, 7, 4)
    assert values["logits"].shape == (2, 5)


def test_two_bodies_make_names_ambiguous(build):
    both = nn.ModuleDict({"question": build("bert").bert, "answer": build("bert").bert})
    sites = Model.wrap(both).sites
    assert sites.family == "module"
    assert sites.get("answer.encoder.layer.1.output.dense").kind == "module"


class OldLayer(nn.Module):
    """The block layout of vision encoders in transformers 4.x; blocks return tuples there."""

    def __init__(self):
        super().__init__()
        self.attention = nn.Module()
        self.attention.attention = nn.Module()
        self.attention.attention.attention_head_size = 4
        self.attention.output = nn.Module()
        self.attention.output.dense = nn.Linear(8, 8)
        self.output = nn.Module()
        self.output.dense = nn.Linear(12, 8)
        self.intermediate = nn.Linear(8, 12)

    def forward(self, hidden):
        hidden = hidden + self.attention.output.dense(hidden)
        return (hidden + self.output.dense(torch.relu(self.intermediate(hidden))),)


class OldVision(nn.Module):
    def __init__(self):
        super().__init__()
        self.embeddings = nn.Linear(3, 8)
        self.encoder = nn.Module()
        self.encoder.layer = nn.ModuleList(OldLayer() for _ in range(2))
        self.layernorm = nn.LayerNorm(8)

    def forward(self, pixels):
        hidden = self.embeddings(pixels)
        for layer in self.encoder.layer:
            hidden = layer(hidden)[0]
        return self.layernorm(hidden)


def test_older_layout_with_tuple_outputs():
    model = Model.wrap(OldVision())
    assert (model.sites.family, model.sites.layers, model.sites.heads) == ("vit", 2, 2)
    inputs = {"pixels": torch.randn(2, 5, 3)}
    values = values_of(model, ["embed", "L0.attn", "L0.mlp", "L0.resid"], inputs)
    torch.testing.assert_close(values["embed"] + values["L0.attn"] + values["L0.mlp"], values["L0.resid"])
    with hooks.edit(model.module, {model.sites.get("L1.resid"): torch.zeros_like}):
        edited = model.forward(inputs)
    torch.testing.assert_close(edited, torch.zeros_like(edited))  # the norm of zeros
