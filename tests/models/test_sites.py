"""Names, patterns, and sites of arbitrary modules."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from model_forensics.errors import UnknownSite
from model_forensics.models import Model, SiteMap, hooks, parse_site_name


@given(st.integers(0, 10**5), st.integers(0, 10**8), st.integers(-(10**8), 10**8), st.sampled_from(["head", "neuron"]))
def test_names_with_numbers_and_positions_come_apart(layer, index, position, kind):
    parsed = parse_site_name(f"L{layer}.{kind}{index}@{position}")
    assert (parsed.layer, parsed.index, parsed.position, parsed.kind) == (layer, index, position, kind)
    assert parsed.name == f"L{layer}.{kind}{index}"


@pytest.mark.parametrize("name", ["embed", "final_norm", "logits"])
def test_names_without_a_layer(name):
    assert parse_site_name(name).kind == name
    assert parse_site_name(f"{name}@-1").position == -1


@given(st.text(max_size=30))
def test_any_text_is_a_name_or_refused(text):
    try:
        parsed = parse_site_name(text)
    except UnknownSite:
        return
    assert parsed.name
    assert "@" not in parsed.name


@pytest.mark.parametrize("name", ["", "@3", "L3.head", "L3.attn5", "L1.mlp@x@2"])
def test_names_that_are_none(name):
    with pytest.raises(UnknownSite):
        parse_site_name(name)


def names(taps):
    return [tap.name for tap in taps]


def test_presets(build):
    sites = SiteMap(build("gpt2"))
    assert names(sites.select("blocks")) == ["embed", "L0.resid", "L1.resid", "L2.resid", "final_norm"]
    assert names(sites.select("components"))[:4] == ["embed", "L0.attn", "L0.mlp", "L0.resid"]
    assert names(sites.select("heads"))[1:6] == ["L0.head0", "L0.head1", "L0.head2", "L0.head3", "L0.attn"]
    assert sites.select("all") == sites.taps
    assert names(sites.components()) == ["L0.attn", "L0.mlp", "L1.attn", "L1.mlp", "L2.attn", "L2.mlp"]
    assert names(sites.components("head"))[:5] == ["L0.head0", "L0.head1", "L0.head2", "L0.head3", "L0.mlp"]


def test_patterns(build):
    sites = SiteMap(build("gpt2"))
    assert names(sites.select(["L2.mlp", "L*.attn", "L2.*"])) == [
        "L0.attn", "L1.attn", "L2.head0", "L2.head1", "L2.head2", "L2.head3", "L2.attn", "L2.mlp", "L2.resid"
    ]  # fmt: skip
    assert len(sites.select(["L1.neuron*"])) == 64
    assert names(sites.select(["transformer.h.*.attn.c_attn"])) == [f"transformer.h.{n}.attn.c_attn" for n in range(3)]
    queries = sites.get("transformer.h.1.attn.c_attn")
    assert sites.get("L0.resid").order < queries.order < sites.get("L1.head0").order
    assert (queries.kind, queries.features) == ("module", 48)


@pytest.mark.parametrize("name", ["L3.mlp", "L0.head4", "L0.neuron64", "transformer.h.9", "nonsense", "L0.mlp@-1"])
def test_unknown_sites_are_refused_with_a_cure(name, build):
    with pytest.raises(UnknownSite) as refused:
        SiteMap(build("gpt2")).get(name)
    assert name in str(refused.value)
    assert refused.value.cure


@pytest.mark.parametrize("pattern", ["L7.*", "L*.nothing", "a.*.b"])
def test_patterns_without_a_match_are_refused(pattern, build):
    with pytest.raises(UnknownSite):
        SiteMap(build("gpt2")).select([pattern])


def test_an_empty_selection_is_refused(build):
    with pytest.raises(UnknownSite, match="no sites"):
        SiteMap(build("gpt2")).select([])


def test_nearest_names_are_given(build):
    with pytest.raises(UnknownSite, match=r"L1\.mlp"):
        SiteMap(build("gpt2")).get("L1.mpl")


def convolutional():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Sequential(nn.Conv2d(4, 2, 3), nn.Flatten()), nn.Linear(32, 5)
    )


def test_arbitrary_modules_have_module_paths():
    sites = SiteMap(convolutional())
    assert (sites.family, sites.layers, sites.heads, sites.width) == ("module", None, None, None)
    assert names(sites.taps) == ["0", "2.0", "3", "logits"]
    assert names(sites.select("components")) == ["0", "2.0", "3"]
    assert names(sites.select("blocks")) == ["0", "1", "2.0", "2.1", "3"]
    assert names(sites.select("all")) == ["0", "1", "2.0", "2.1", "2", "3", "logits"]
    assert [sites.get(name).features for name in ("0", "2.0", "3", "1")] == [4, 2, 5, 0]
    assert names(sites.components()) == ["0", "2.0", "3"]
    with pytest.raises(UnknownSite, match="heads"):
        sites.select("heads")


def test_arbitrary_modules_can_be_edited():
    model = Model.wrap(convolutional())
    with hooks.edit(model.module, {model.sites.get("2.0"): torch.zeros_like}):
        edited = model.forward({"input": torch.randn(2, 3, 8, 8)})
    torch.testing.assert_close(edited, model.module[3].bias.detach().expand(2, 5))


def test_a_single_layer_is_a_model_too():
    sites = SiteMap(nn.Linear(2, 3))
    assert names(sites.select("blocks")) == ["logits"]
