"""What tells two models apart that hold the same weights."""

from __future__ import annotations

import shutil

import pytest
import torch

from model_forensics.models import Model, computation, load_model


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    place = tmp_path_factory.mktemp("model") / "llama"
    transformers.LlamaForCausalLM(config).save_pretrained(place)
    return place


def test_the_same_files_compute_the_same_wherever_they_are(stored, tmp_path):
    shutil.copytree(stored, tmp_path / "copy")
    first, copied = (computation(load_model(place, device="cpu")) for place in (stored, tmp_path / "copy"))
    assert first is not None
    assert first == copied


def change_weight(module):
    module.model.layers[1].mlp.down_proj.weight[0, 0] += 1


def change_rotary_frequencies(module):
    module.model.rotary_emb.inv_freq *= 2  # a buffer that no checkpoint holds


def change_epsilon(module):
    module.model.layers[0].input_layernorm.variance_epsilon = 1e-2


def change_configuration(module):
    module.config.rms_norm_eps = 1e-2


def change_attention(module):
    module.config._attn_implementation = "eager" if module.config._attn_implementation != "eager" else "sdpa"


def change_threads(module):
    torch.set_num_threads(torch.get_num_threads() + 1)


def change_precision(module):
    torch.set_float32_matmul_precision("medium")


@pytest.mark.parametrize(
    "change",
    [
        change_weight,
        change_rotary_frequencies,
        change_epsilon,
        change_configuration,
        change_attention,
        change_threads,
        change_precision,
    ],
)
def test_what_changes_a_bit_changes_the_value(stored, change):
    model, threads, precision = load_model(stored, device="cpu"), torch.get_num_threads(), "highest"
    before = computation(model)
    try:
        with torch.no_grad():
            change(model.module)
        assert computation(model) not in (None, before)
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)


def test_another_forward_of_a_class_changes_the_value(stored, monkeypatch):
    model = load_model(stored, device="cpu")
    before = computation(model)
    kind = type(model.module.model.layers[0].mlp)
    original = kind.forward
    monkeypatch.setattr(kind, "forward", lambda self, x: 2 * original(self, x))
    assert computation(model) not in (None, before)


def put_hook(module):
    module.model.layers[0].mlp.register_forward_hook(lambda *_: None)


def put_pre_hook(module):
    module.model.layers[0].register_forward_pre_hook(lambda *_: None)


def put_forward(module):
    module.model.layers[1].mlp.forward = lambda x: x


@pytest.mark.parametrize("alter", [put_hook, put_pre_hook, put_forward])
def test_what_was_put_into_a_model_cannot_be_told(stored, alter):
    model = load_model(stored, device="cpu")
    alter(model.module)
    assert computation(model) is None


def test_a_module_of_the_operator_cannot_be_told(stored):
    assert computation(Model.wrap(load_model(stored, device="cpu").module)) is None
