"""A decoder run from its middle is the decoder, and what cannot be run so is refused in words."""

from __future__ import annotations

import pytest
import torch

from model_forensics.models import Model
from model_forensics.models.blocks import BlockOutputs, skippable_blocks
from model_forensics.models.decoder import find_decoder
from model_forensics.models.middle import BaseRun, CannotReplay, Past, Selection

CAUSAL = ("gpt2", "llama", "qwen2", "qwen3", "mistral")


def base_of(build, example, family):
    model = Model.wrap(build(family))
    decoder = find_decoder(model.module)
    assert not isinstance(decoder, str), decoder
    inputs = example(family)
    return model, BaseRun(model, decoder, inputs, torch.tensor([6, 3]))


@pytest.mark.parametrize("family", CAUSAL)
def test_halves_lead_from_each_kept_state_to_the_next(family, build, example):
    model, base = base_of(build, example, family)
    rows = Selection(torch.arange(base.rows), 0, base.tokens)
    with torch.no_grad():
        for layer in range(base.decoder.layers):
            before, between, after = base.states[2 * layer : 2 * layer + 3]
            assert torch.equal(before + base.attend(layer, before, rows), between)
            assert torch.equal(between + base.transform(layer, between), after)
        logits = base.decoder.logits(base.states[-1])
        assert torch.equal(logits, model.forward(example(family)))
        assert torch.equal(logits[[0, 1], [6, 3]], base.logits)


@pytest.mark.parametrize("family", CAUSAL)
@pytest.mark.parametrize("start", [1, 3])
def test_later_tokens_alone_attend_to_the_kept_keys(family, start, build, example):
    _, base = base_of(build, example, family)
    for stop in range(start + 1, base.tokens + 1):
        chosen = Selection(torch.tensor([1, 0, 1]), start, stop)
        with torch.no_grad():
            for layer in range(base.decoder.layers):
                before, between = base.states[2 * layer : 2 * layer + 2]
                hidden = before[chosen.rows, start:stop]
                found = hidden + base.attend(layer, hidden, chosen)
                torch.testing.assert_close(found, between[chosen.rows, start:stop], rtol=1e-5, atol=1e-6)


def test_nothing_is_left_on_the_model(build, example):
    model, _ = base_of(build, example, "gpt2")
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.module.modules())


@pytest.mark.parametrize(("family", "why"), [("bert", "half by half"), ("vit", "half by half")])
def test_encoders_have_no_halves_to_run_alone(family, why, build):
    assert why in str(find_decoder(build(family)))


def test_a_block_with_parts_of_its_own_is_refused(build):
    module = build("llama")
    module.model.layers[1].adapter = torch.nn.Linear(2, 2)
    assert "adapter" in str(find_decoder(module))


def test_unknown_arguments_of_the_attention_are_refused(build, example):
    model = Model.wrap(build("llama"))
    decoder = find_decoder(model.module)

    def with_bias(_module, positional, named):
        return positional, {**named, "position_bias": torch.zeros(1)}

    model.module.model.layers[2].self_attn.register_forward_pre_hook(with_bias, with_kwargs=True)
    with pytest.raises(CannotReplay, match="position_bias"):
        BaseRun(model, decoder, example("llama"), torch.tensor([6, 6]))


def test_past_keys_come_before_the_own_ones():
    earlier, own = torch.randn(1, 2, 3, 4), torch.randn(5, 2, 2, 4)
    past = Past(earlier, -earlier)
    keys, values = past.update(own, -own, 0)
    assert past.get_seq_length() == 3
    assert torch.equal(keys, torch.cat([earlier.expand(5, -1, -1, -1), own], dim=2))
    assert torch.equal(values, -keys)
    assert past.seen is not None
    assert torch.equal(past.seen[0], own)


@pytest.mark.parametrize("family", [*CAUSAL, "bert", "vit"])
def test_skipped_blocks_give_what_they_gave(family, build, example):
    model = Model.wrap(build(family))
    inputs = example(family)
    expected = model.forward(inputs)
    paths = skippable_blocks(model.module)
    outputs = BlockOutputs(model, paths, inputs, len(expected))
    assert outputs.kept
    for first in range(len(paths) + 1):
        with outputs.skipping(first, range(len(expected))):
            assert torch.equal(model.forward(inputs), expected)
    assert not any("forward" in model.module.get_submodule(path).__dict__ for path in paths)


def test_blocks_that_others_watch_are_not_skipped(build):
    module = build("bert")
    assert len(skippable_blocks(module)) == 3
    module.bert.encoder.layer[0].register_forward_hook(lambda _module, _inputs, output: output)
    assert skippable_blocks(module) == ()
