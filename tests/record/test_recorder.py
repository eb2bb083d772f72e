"""What is recorded is what the model computed, row by row, and a failed recording leaves nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

transformers = pytest.importorskip("transformers", reason="the hf extra is not installed")

from model_forensics.bundle import load_bundle  # noqa: E402
from model_forensics.errors import ModelError, ModelForensicsError, OutputError, UnknownSite, UsageError  # noqa: E402
from model_forensics.failure import Failure  # noqa: E402
from model_forensics.models import Model, hooks, rows  # noqa: E402
from model_forensics.record import Recorder  # noqa: E402

IDS = torch.tensor([[0, 0, 5, 6, 7], [1, 2, 3, 4, 8]])
MASK = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
BATCH = {"input_ids": IDS, "attention_mask": MASK}
FAILURE = Failure.token(wrong=[3], right=[4])


def gpt2(**changes):
    torch.manual_seed(0)
    settings = {"n_layer": 2, "n_head": 2, "n_embd": 8, "vocab_size": 20, "n_positions": 32}
    config = transformers.GPT2Config(**settings, bos_token_id=None, eos_token_id=None, **changes)
    module = transformers.GPT2LMHeadModel(config)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.4)
    return module.eval()


def count_hooks(module):
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules())


def direct(model, taps, inputs):
    values = {}
    with hooks.read(model.module, taps, lambda tap, value: values.__setitem__(tap.name, value.detach().clone())):
        output = model.forward(inputs)
    return values, output


@pytest.mark.parametrize(
    "sites", ["blocks", "components", "heads", "all", ["L1.neuron3", "L*.mlp", "transformer.ln_f"]]
)
def test_recorded_rows_are_the_models_values(sites, tmp_path):
    model = Model.wrap(gpt2())
    recorder = Recorder(model, sites=sites)
    with recorder.incident(tmp_path / "bundle", failure=FAILURE) as incident:
        output = incident.run(**BATCH, texts=["one", "two"], groups=["a", "b"], right=[4, None], wrong=[[1, 2], None])
    bundle = load_bundle(tmp_path / "bundle")
    values, logits = direct(model, recorder.taps, BATCH)
    assert torch.equal(output.logits, logits)
    assert list(bundle.sites) == [tap.name for tap in recorder.taps]
    for row, tokens in enumerate((3, 5)):
        assert bundle.samples[row].tokens == tokens
        for tap in recorder.taps:
            recorded = bundle.activation(tap.name, row)
            assert recorded.shape == (tokens, tap.features)
            assert np.array_equal(recorded, rows.to_rows(values[tap.name], MASK.bool(), row).numpy())
            info = bundle.sites[tap.name]
            assert (info.module, info.kind, info.layer, info.dtype) == (tap.module, tap.kind, tap.layer, "float32")
        assert np.array_equal(bundle.outputs(row)["logits"], logits[row, -1:].numpy())
    first, second = bundle.samples
    assert (first.text, first.group, first.right, first.wrong, first.call, first.row) == (
        "one",
        "a",
        (4,),
        (1, 2),
        0,
        0,
    )
    assert (second.right, second.wrong, second.row) == (None, None, 1)
    assert bundle.kind == "incident"
    assert bundle.failure == FAILURE
    assert bundle.model == model.reference


def test_inputs_are_kept_as_passed_and_replay_bit_for_bit(tmp_path):
    model = Model.wrap(gpt2())
    with Recorder(model).benign(tmp_path / "bundle") as benign:
        benign.run(**BATCH)
        benign.run(input_ids=np.array([[3, 1, 4]]))
    bundle = load_bundle(tmp_path / "bundle")
    assert [(sample.call, sample.row) for sample in bundle.samples] == [(0, 0), (0, 1), (1, 0)]
    assert bundle.failure is None
    assert set(bundle.inputs(0)) == set(BATCH)
    for call, last in ((0, [0, 1]), (1, [2])):
        inputs = {name: torch.from_numpy(np.array(value)) for name, value in bundle.inputs(call).items()}
        logits = model.forward(inputs)
        for row, sample in enumerate(last):
            assert np.array_equal(bundle.outputs(sample)["logits"], logits[row, -1:].numpy())
    assert np.array_equal(bundle.inputs(0)["attention_mask"], MASK.numpy())


def test_right_padding_and_a_chosen_position(tmp_path):
    model = Model.wrap(gpt2())
    inputs = {"input_ids": IDS.flip(1), "attention_mask": MASK.flip(1)}
    failure = Failure.token(wrong=[1], right=[2], position=-2)
    with Recorder(model, ["L0.mlp"]).incident(tmp_path / "bundle", failure=failure) as incident:
        incident.run(**inputs)
    bundle = load_bundle(tmp_path / "bundle")
    values, logits = direct(model, [model.sites.get("L0.mlp")], inputs)
    assert np.array_equal(bundle.activation("L0.mlp", 0), values["L0.mlp"][0, :3].numpy())
    assert np.array_equal(bundle.outputs(0)["logits"][0], logits[0, 1].numpy())
    assert np.array_equal(bundle.outputs(1)["logits"][0], logits[1, 3].numpy())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_every_dtype_is_kept(dtype, tmp_path):
    model = Model.wrap(gpt2().to(dtype))
    with Recorder(model, "components").benign(tmp_path / "bundle") as benign:
        benign.run(**BATCH)
    bundle = load_bundle(tmp_path / "bundle")
    values, logits = direct(model, model.sites.select("components"), BATCH)
    for name, value in values.items():
        assert bundle.sites[name].dtype == str(dtype).removeprefix("torch.")
        expected = value[1].float() if dtype == torch.bfloat16 else value[1]
        assert np.array_equal(bundle.activation(name, 1), expected.numpy())
    recorded = bundle.outputs(1)["logits"]
    assert recorded.dtype == (np.float64 if dtype == torch.float64 else np.float32)
    assert np.array_equal(recorded[0], logits[1, -1].double().numpy().astype(recorded.dtype))


def test_autocast_is_recorded_as_computed(tmp_path):
    with (
        Recorder(gpt2(), "components").benign(tmp_path / "bundle") as benign,
        torch.autocast("cpu", dtype=torch.bfloat16),
    ):
        benign.run(**BATCH)
    bundle = load_bundle(tmp_path / "bundle")
    assert bundle.sites["L0.mlp"].dtype == "bfloat16"
    assert bundle.sites["embed"].dtype == "float32"
    assert bundle.outputs(0)["logits"].dtype == np.float32


def test_a_site_keeps_one_dtype_in_a_bundle(tmp_path):
    with (  # noqa: PT012  (the second of two runs is what raises)
        pytest.raises(ModelError, match="bfloat16"),
        Recorder(gpt2(), ["L0.mlp"]).benign(tmp_path / "bundle") as benign,
    ):
        benign.run(**BATCH)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            benign.run(**BATCH)
    assert not (tmp_path / "bundle").exists()


def test_training_mode_is_left_for_the_call_only(tmp_path):
    module = gpt2(resid_pdrop=0.5)
    module.train()
    module.transformer.h[0].eval()
    modes = {name: part.training for name, part in module.named_modules()}
    with Recorder(module).benign(tmp_path / "bundle") as benign:
        recorded = benign.run(**BATCH).logits
    assert {name: part.training for name, part in module.named_modules()} == modes
    assert torch.equal(recorded, module.eval()(**BATCH).logits)


@pytest.mark.parametrize("method", ["run", "generate"])
def test_a_model_that_raises_leaves_nothing(method, tmp_path):
    module = gpt2().train()
    recorder = Recorder(module, "heads")
    more = {"max_new_tokens": 2} if method == "generate" else {}
    with (  # noqa: PT012  (a session that has recorded something is what fails)
        pytest.raises(IndexError),
        recorder.incident(tmp_path / "bundle", failure=FAILURE) as incident,
    ):
        incident.run(**BATCH)
        getattr(incident, method)(input_ids=torch.tensor([[1, 999]]), **more)
    assert not list(tmp_path.iterdir())
    assert count_hooks(module) == 0
    assert all(part.training for part in module.modules())


def test_recorded_values_survive_in_place_operations(tmp_path):
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Linear(4, 2)).eval()
    with Recorder(module, ["0"]).benign(tmp_path / "bundle") as benign:
        benign.run(input=torch.ones(1, 3))
    expected = module[0](torch.ones(1, 3)).detach().numpy()
    assert (expected < 0).any()
    assert np.array_equal(load_bundle(tmp_path / "bundle").activation("0", 0), expected)


def test_images_and_convolutions(tmp_path):
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5)).eval()
    pixels = torch.randn(2, 3, 6, 6)
    with Recorder(module, "all").incident(tmp_path / "bundle", failure=Failure.label(right=[1])) as incident:
        incident.run(input=pixels)
    bundle = load_bundle(tmp_path / "bundle")
    with torch.no_grad():
        expected = module[0](pixels)
        logits = module(pixels)
    assert np.array_equal(bundle.activation("0", 1), expected[1].reshape(4, 16).T.numpy())
    assert bundle.activation("3", 1).shape == (1, 5)
    assert bundle.samples[0].tokens == 16
    assert np.array_equal(bundle.outputs(1)["logits"], logits[1:].numpy())


def test_bfloat16_inputs_replay(tmp_path):
    module = nn.Sequential(nn.Linear(3, 2)).bfloat16().eval()
    x = torch.randn(2, 3).bfloat16()
    with Recorder(module).benign(tmp_path / "bundle") as benign:
        benign.run(input=x)
    bundle = load_bundle(tmp_path / "bundle")
    replayed = Model.wrap(module).forward({"input": torch.from_numpy(np.array(bundle.inputs(0)["input"]))})
    assert np.array_equal(bundle.outputs(1)["logits"][0], replayed[1].float().numpy())


def test_vision_and_wrapped_encoders(tmp_path):
    config = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 8, "intermediate_size": 12}
    vit = transformers.ViTForImageClassification(transformers.ViTConfig(**config, image_size=8, patch_size=4)).eval()
    with Recorder(vit, "heads").benign(tmp_path / "vit") as benign:
        benign.run(pixel_values=torch.randn(2, 3, 8, 8))
    bundle = load_bundle(tmp_path / "vit")
    assert bundle.activation("L1.head1", 0).shape == (5, 4)
    assert bundle.samples[0].tokens == 5
    bert = transformers.BertForSequenceClassification(transformers.BertConfig(**config, vocab_size=20)).eval()
    with Recorder(bert, "components").incident(tmp_path / "bert", failure=Failure.label(right=[1])) as incident:
        incident.run(input_ids=IDS.flip(1), attention_mask=MASK.flip(1))
    bundle = load_bundle(tmp_path / "bert")
    assert [sample.tokens for sample in bundle.samples] == [3, 5]
    assert bundle.activation("L1.mlp", 0).shape == (3, 8)
    assert bundle.outputs(0)["logits"].shape == (1, 2)


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.shared = nn.Linear(3, 3)
        self.unused = nn.Linear(3, 3)
        self.count = nn.Embedding(2, 3)

    def forward(self, x):
        return self.shared(self.shared(x))


def test_modules_without_a_single_value_are_refused(tmp_path):
    for site, message in (("shared", "several times"), ("unused", "without computing")):
        with (
            pytest.raises(ModelError, match=message),
            Recorder(Twice(), [site]).benign(tmp_path / "bundle") as benign,
        ):
            benign.run(x=torch.ones(1, 3))
        assert not (tmp_path / "bundle").exists()


def test_unused_modules_are_left_out_of_a_preset(tmp_path):
    class Partly(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x):
            return self.used(x)

    with Recorder(Partly(), "components").benign(tmp_path / "bundle") as benign:
        benign.run(x=torch.ones(1, 3))
    assert list(load_bundle(tmp_path / "bundle").sites) == ["used"]


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"input_ids": IDS, "attention_mask": MASK[:1]},
        {"input_ids": torch.tensor(3)},
        {"input_ids": IDS[:0]},
        {"input_ids": IDS, "use_cache": False},
        {"input_ids": IDS, "texts": ["one"]},
        {"input_ids": IDS, "groups": "ab"},
        {"input_ids": IDS, "right": [1, 2, 3]},
    ],
)
def test_inputs_that_are_no_batch_are_refused(arguments, tmp_path):
    with pytest.raises(UsageError), Recorder(gpt2()).benign(tmp_path / "bundle") as benign:
        benign.run(**arguments)


def test_a_position_that_a_sample_does_not_have(tmp_path):
    failure = Failure.token(wrong=[1], right=[2], position=4)
    with (
        pytest.raises(OutputError, match="3 tokens"),
        Recorder(gpt2()).incident(tmp_path / "bundle", failure=failure) as incident,
    ):
        incident.run(**BATCH)
    assert not (tmp_path / "bundle").exists()


def test_unknown_sites_are_refused_before_anything_runs():
    with pytest.raises(UnknownSite):
        Recorder(gpt2(), ["L9.mlp"])


def test_an_empty_recording_is_refused(tmp_path):
    with pytest.raises(ModelForensicsError), Recorder(gpt2()).benign(tmp_path / "bundle"):
        pass
    assert not list(tmp_path.iterdir())


def test_damage_through_data_is_seen_by_a_new_recorder(tmp_path):
    model = Model.wrap(gpt2())
    before = model.reference.weights_digest
    model.module.transformer.h[0].mlp.c_proj.weight.data[0, 0] = 9.0
    with Recorder(model).benign(tmp_path / "bundle") as benign:
        benign.run(**BATCH)
    reference = load_bundle(tmp_path / "bundle").model
    assert reference.weights_digest != before
    assert reference.tensor_digests["transformer.h.0.mlp.c_proj.weight"]
