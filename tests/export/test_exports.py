"""Exports of the shipped incident: what is written does what was proven, and nothing else is written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from damaged import loaded
from safetensors import SafetensorError

from model_forensics import RCAPipeline
from model_forensics.demo import data_directory
from model_forensics.errors import StorageError, UsageError
from model_forensics.export import hook
from model_forensics.models import load_model


@pytest.fixture(scope="module")
def data():
    with data_directory() as directory:
        yield directory


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    return RCAPipeline({"output_dir": str(tmp_path_factory.mktemp("out")), "modules": {"cca": {"refine": False}}})


@pytest.fixture(scope="module")
def results(pipeline, data, tmp_path_factory) -> dict[str, Path]:
    """A result whose cause is patched from recorded runs, and one from a reference model."""
    folder = tmp_path_factory.mktemp("results")
    found = {"recorded": folder / "recorded.json", "reference": folder / "reference.json"}
    pipeline.analyze_incident(data / "incident", data / "benign", output=found["recorded"])
    donor = data / "reference"
    pipeline.analyze_incident(data / "incident", data / "benign", donor_model=str(donor), output=found["reference"])
    return found


def test_a_constant_needs_one_file_and_goes_into_the_weights(pipeline, data, results, tmp_path):
    place, weights = tmp_path / "ein Ordner ü" / "fix.py", tmp_path / "weights"
    done = pipeline.validate_fix(
        results["recorded"], str(data / "model"), workaround=2, export_hook=place, export_weights=weights
    )
    assert [export.refused for export in done.exports] == [None, None]
    assert [path.name for path in place.parent.iterdir()] == ["fix.py"]
    text = place.read_text()
    assert "import model_forensics" not in text
    assert "without restoring the computation" in text  # it is a workaround, and says so
    broken, edited = load_model(data / "model"), load_model(weights)
    tokens = torch.tensor([[24, 1, 2, 3, 4, 5, 6, 27]])
    before = broken.module(tokens).logits
    with loaded(place).apply(broken.module):
        with_hook = broken.module(tokens).logits
    assert torch.equal(broken.module(tokens).logits, before)
    assert not torch.equal(with_hook, before)
    torch.testing.assert_close(edited.module(tokens).logits, with_hook)  # an input that nothing was proven on
    record = json.loads((weights / "fix.json").read_text())
    assert record["weights_digest"] == edited.reference.weights_digest
    assert record["edited_from"] == broken.reference.weights_digest


def test_a_hook_refuses_other_weights(pipeline, data, results, tmp_path):
    pipeline.validate_fix(results["recorded"], str(data / "model"), export_hook=tmp_path / "fix.py")
    fix = loaded(tmp_path / "fix.py")
    with pytest.raises(ValueError, match="validate it anew"):
        fix.apply(load_model(data / "reference").module)
    (tmp_path / "fix.bin").write_bytes(b"other values")
    with pytest.raises(ValueError, match="not those that were exported"):
        loaded(tmp_path / "fix.py")


def test_recorded_values_serve_the_recorded_inputs_alone(pipeline, data, results, tmp_path):
    done = pipeline.validate_fix(
        results["recorded"], str(data / "model"), export_hook=tmp_path / "fix.py", export_weights=tmp_path / "weights"
    )
    hooked, weights = done.exports
    assert hooked.refused is None
    assert weights.refused is not None
    assert "no fixed weights hold" in weights.refused
    assert not (tmp_path / "weights").exists()
    module, fix = load_model(data / "model").module, loaded(tmp_path / "fix.py")
    unknown = torch.tensor([[24, 1, 2, 3, 4, 5, 6, 27]])
    known = torch.tensor([list(fix.INPUTS[0])])
    before = module(input_ids=unknown).logits, module(input_ids=known).logits
    with fix.apply(module):
        assert torch.equal(module(input_ids=unknown).logits, before[0])
        assert not torch.equal(module(input_ids=known).logits, before[1])


def test_a_reference_model_is_asked_or_copied(pipeline, data, results, tmp_path):
    done = pipeline.validate_fix(
        results["reference"], str(data / "model"), export_hook=tmp_path / "fix.py", export_weights=tmp_path / "weights"
    )
    assert [export.refused for export in done.exports] == [None, None]
    assert done.exports[1].equals_donor
    assert done.exports[1].changed == ("transformer.h.2.mlp.c_proj.weight",)
    donor, module = load_model(data / "reference").module, load_model(data / "model").module
    tokens = torch.tensor([[24, 1, 2, 3, 4, 5, 6, 27]])
    with loaded(tmp_path / "fix.py").apply(module, donor):
        torch.testing.assert_close(module(tokens).logits, donor(tokens).logits)
        cache = module(tokens, use_cache=True).past_key_values
        with pytest.raises(RuntimeError, match="use_cache=False"):
            module(tokens[:, -1:], past_key_values=cache)


def test_nothing_is_replaced_or_written_by_accident(pipeline, data, results, tmp_path, monkeypatch):
    model, place = str(data / "model"), tmp_path / "fix.py"
    with pytest.raises(UsageError, match=r"\.py"):
        pipeline.validate_fix(results["recorded"], model, export_hook=tmp_path / "fix.txt")
    place.write_text("mine")
    with pytest.raises(UsageError, match="already exists"):
        pipeline.validate_fix(results["recorded"], model, export_hook=place)
    shutil.copytree(data / "model", tmp_path / "mine")
    with pytest.raises(UsageError, match="no export"):
        pipeline.validate_fix(results["recorded"], model, export_weights=tmp_path / "mine", overwrite=True)
    # a hook that does something else than was proven
    monkeypatch.setattr(hook, "_asked", lambda _request: {"error": 0.5, "removed_error": 0.0})
    refused = pipeline.validate_fix(results["recorded"], model, export_hook=place, overwrite=True).exports[0].refused
    assert refused is not None
    assert "depart by 0.5" in refused
    assert place.read_text() == "mine"


def test_a_name_cannot_leave_the_docstring():
    from model_forensics.export.hook_text import _docstring

    text = _docstring(['a """\nimport os # \\', "\u202eb"])
    assert text.count('"""') == 2
    assert "\\" not in text
    compile(text, "hook", "exec")


def test_a_full_disk_is_a_named_error_and_leaves_nothing(pipeline, data, results, tmp_path, monkeypatch):
    def full(*_arguments, **_options):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    module = load_model(data / "model").module
    monkeypatch.setattr(type(module), "save_pretrained", full)
    with pytest.raises(StorageError, match="No space left"):
        pipeline.validate_fix(
            results["recorded"], str(data / "model"), workaround=1, export_weights=tmp_path / "weights"
        )
    assert list(tmp_path.iterdir()) == []
