"""Recorded generations: the rows of every step, and a replay that needs one forward."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

transformers = pytest.importorskip("transformers", reason="the hf extra is not installed")

from model_forensics.bundle import load_bundle  # noqa: E402
from model_forensics.errors import OutputError, UsageError  # noqa: E402
from model_forensics.failure import Failure  # noqa: E402
from model_forensics.models import Model, hooks, rows  # noqa: E402
from model_forensics.record import Recorder  # noqa: E402

VOCABULARY = 20
IDS = torch.tensor([[0, 0, 5, 6, 7], [1, 2, 3, 4, 8]])
MASK = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
FAILURE = Failure.token(wrong=[3], right=[4])


def build(family):
    torch.manual_seed(3)
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 8, "intermediate_size": 12}
    common = {"vocab_size": VOCABULARY, "bos_token_id": None, "eos_token_id": None, "pad_token_id": 0}
    if family == "gpt2":
        config = transformers.GPT2Config(n_layer=2, n_head=2, n_embd=8, n_positions=32, **common)
        module = transformers.GPT2LMHeadModel(config)
    else:
        module = transformers.LlamaForCausalLM(transformers.LlamaConfig(num_key_value_heads=1, **sizes, **common))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.6)
    return module.eval()


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("sites", ["blocks", "heads", ["L1.mlp", "logits"]])
def test_steps_equal_a_teacher_forced_replay(family, sites, tmp_path):
    model = Model.wrap(build(family))
    recorder = Recorder(model, sites)
    with recorder.incident(tmp_path / "bundle", failure=FAILURE) as incident:
        sequences = incident.generate(max_new_tokens=4, input_ids=IDS, attention_mask=MASK, groups=["a", "b"])
    with torch.no_grad():
        plain = model.module.generate(input_ids=IDS, attention_mask=MASK, max_new_tokens=4, do_sample=False)
    assert torch.equal(sequences, plain)
    bundle = load_bundle(tmp_path / "bundle")
    assert [sample.tokens for sample in bundle.samples] == [3 + 3, 5 + 3]
    assert [sample.generated_from for sample in bundle.samples] == [3, 5]
    inputs = {name: torch.from_numpy(np.array(value)) for name, value in bundle.inputs(0).items()}
    assert torch.equal(inputs["input_ids"], sequences[:, :-1])
    values = {}
    with hooks.read(model.module, recorder.taps, lambda tap, value: values.__setitem__(tap.name, value)):
        logits = model.forward(inputs)
    mask = rows.real_token_mask(inputs)
    for row in range(2):
        for name, value in values.items():
            replayed = rows.to_rows(value, mask, row).numpy()
            np.testing.assert_allclose(bundle.activation(name, row), replayed, rtol=1e-4, atol=1e-5)
        recorded = bundle.outputs(row)["logits"][0]
        np.testing.assert_allclose(recorded, logits[row, -1].numpy(), rtol=1e-4, atol=1e-5)
        assert int(recorded.argmax()) == int(sequences[row, -1])


def test_rows_that_end_stop_there(tmp_path):
    module = build("llama")
    with torch.no_grad():
        free = module.generate(input_ids=IDS, attention_mask=MASK, max_new_tokens=6, do_sample=False)
    end = int(free[0, 6])  # what the first row generates second
    with Recorder(module, ["L1.mlp"]).incident(tmp_path / "bundle", failure=FAILURE) as incident:
        sequences = incident.generate(
            max_new_tokens=6, eos_token_id=end, pad_token_id=0, input_ids=IDS, attention_mask=MASK
        )
    bundle = load_bundle(tmp_path / "bundle")
    for row, prompt in enumerate((3, 5)):
        generated = free[row, 5:].tolist()
        kept = generated.index(end) + 1 if end in generated else len(generated)
        assert bundle.samples[row].tokens == prompt + kept - 1
        assert bundle.activation("L1.mlp", row).shape == (prompt + kept - 1, 8)
        assert int(bundle.outputs(row)["logits"].argmax()) == generated[kept - 1]
        assert int(bundle.inputs(0)["attention_mask"][row].sum()) == prompt + kept - 1
    assert sequences.shape[1] <= 11


@pytest.mark.parametrize("position", [0, 2, 4, -2, -4])
def test_any_position_can_be_scored(position, tmp_path):
    model = Model.wrap(build("gpt2"))
    failure = Failure.token(wrong=[3], right=[4], position=position)
    with Recorder(model, ["L1.mlp"]).incident(tmp_path / "bundle", failure=failure) as incident:
        incident.generate(max_new_tokens=4, input_ids=IDS, attention_mask=MASK)
    bundle = load_bundle(tmp_path / "bundle")
    inputs = {name: torch.from_numpy(np.array(value)) for name, value in bundle.inputs(0).items()}
    expected = rows.scored_logits(model.forward(inputs), rows.real_token_mask(inputs), position)
    for row in range(2):
        np.testing.assert_allclose(bundle.outputs(row)["logits"][0], expected[row].numpy(), rtol=1e-4, atol=1e-5)


def test_a_position_beyond_the_sequence_is_refused(tmp_path):
    failure = Failure.token(wrong=[3], right=[4], position=9)
    with (
        pytest.raises(OutputError),
        Recorder(build("gpt2")).incident(tmp_path / "bundle", failure=failure) as incident,
    ):
        incident.generate(max_new_tokens=2, input_ids=IDS)
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        {"input_ids": IDS, "num_beams": 2},
        {"input_ids": IDS, "do_sample": True},
        {"input_ids": IDS.flip(1), "attention_mask": MASK.flip(1)},
        {"input_ids": IDS, "token_type_ids": IDS},
        {"attention_mask": MASK},
        {"input_ids": IDS[0]},
    ],
)
def test_generations_that_could_not_be_replayed_are_refused(arguments, tmp_path):
    with pytest.raises(UsageError), Recorder(build("gpt2")).benign(tmp_path / "bundle") as benign:
        benign.generate(max_new_tokens=2, **arguments)


def test_models_that_cannot_generate(tmp_path):
    with pytest.raises(UsageError, match="generate"), Recorder(nn.Linear(2, 2)).benign(tmp_path / "bundle") as benign:
        benign.generate(max_new_tokens=2, input_ids=IDS)
