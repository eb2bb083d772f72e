"""Input that is refused: exit 3, the file and the cure in the text, nothing written."""

from __future__ import annotations

import errno
import json
import shutil

import pytest
from safetensors.numpy import load_file

from model_forensics.files import write_safetensors


@pytest.fixture
def refuse(run, tmp_path):
    """Runs `analyze`; it must refuse, name these words and write nothing."""

    def check(incident, *arguments, words):
        done = run("analyze", incident, *arguments, "--output", tmp_path / "out" / "r.json")
        assert done.exit_code == 3, done.output
        for word in words:
            assert str(word) in done.stderr
        assert "Traceback" not in done.stderr
        assert done.stdout == ""
        assert not (tmp_path / "out").exists()

    return check


@pytest.mark.parametrize("missing", ["bundle_id", "files", "failure", "codec", "sites"])
def test_missing_manifest_field(case, refuse, missing):
    manifest = case / "incident" / "manifest.json"
    fields = json.loads(manifest.read_text())
    del fields[missing]
    manifest.write_text(json.dumps(fields))
    refuse(case / "incident", words=[manifest, missing])


def test_fewer_lines_than_samples(case, refuse, edit_manifest):
    lines = case / "incident" / "samples.jsonl"
    lines.write_bytes(b"".join(lines.read_bytes().splitlines(keepends=True)[:-1]))
    edit_manifest(case / "incident", lambda manifest: None)
    refuse(case / "incident", words=[lines, "samples"])


def test_activations_of_another_length(case, refuse, edit_manifest):
    file = case / "incident" / "activations" / "000.safetensors"
    tensors = load_file(file)
    tensors["L1.mlp"] = tensors["L1.mlp"][:-1].copy()
    write_safetensors(file, tensors)
    edit_manifest(case / "incident", lambda manifest: None)
    refuse(case / "incident", words=[file, "L1.mlp"])


def test_nan_in_recorded_outputs(case, refuse, edit_manifest):
    file = case / "incident" / "outputs.safetensors"
    tensors = {name: value.copy() for name, value in load_file(file).items()}
    tensors["logits"][0, 3] = float("nan")
    write_safetensors(file, tensors)
    edit_manifest(case / "incident", lambda manifest: None)
    refuse(case / "incident", words=[file, "logits", "nonfinite"])


def test_truncated_activations_whose_digest_fits(case, refuse, edit_manifest):
    file = case / "incident" / "activations" / "000.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    edit_manifest(case / "incident", lambda manifest: None)
    refuse(case / "incident", words=[file])


def test_linked_bundle_file(case, refuse):
    file = case / "incident" / "inputs.safetensors"
    shutil.move(file, case / "elsewhere")
    file.symlink_to(case / "elsewhere")
    refuse(case / "incident", words=[file, "link"])


@pytest.mark.parametrize("name", ["model.bin", "activations/000.pt", "extra.npy"])
def test_pickles_by_any_name(case, refuse, name):
    (case / "incident" / name).write_bytes(b"\x80\x04.")
    refuse(case / "incident", words=[case / "incident" / name, "pickle"])


def test_baseline_of_another_tokenizer(case, refuse, edit_manifest):
    for bundle, letter in (("incident", "a"), ("benign", "b")):
        digest = f"sha256:{letter * 64}"
        edit_manifest(case / bundle, lambda manifest, digest=digest: manifest["model"].update(tokenizer_digest=digest))
    refuse(case / "incident", "--baseline", case / "benign", words=[case / "incident", "tokenizer"])


def test_broken_fitted_baseline(case, fitted, refuse):
    for damage in ("baseline.safetensors", "baseline.json"):
        copy = case / damage
        shutil.copytree(fitted, copy)
        content = bytearray((copy / damage).read_bytes())
        content[len(content) // 2] ^= 0x11
        (copy / damage).write_bytes(bytes(content))
        refuse(case / "incident", "--baseline", copy, words=[copy])


def test_baseline_that_is_not_there(data, refuse, tmp_path):
    refuse(data / "incident", "--baseline", tmp_path / "none", words=[tmp_path / "none"])


def small_gpt2(directory, **sizes):
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(**{"vocab_size": 39, "n_positions": 32, "n_embd": 64, "n_layer": 4, "n_head": 4, **sizes})
    GPT2LMHeadModel(config).save_pretrained(directory)
    return directory


def test_donor_model_of_another_width(data, refuse, tmp_path):
    donor = small_gpt2(tmp_path / "donor", n_embd=32)
    refuse(data / "incident", "--donor-model", donor, words=["donor model", "same architecture"])


def test_donor_model_without_some_layers(data, refuse, tmp_path):
    donor = small_gpt2(tmp_path / "donor", n_layer=2)
    refuse(data / "incident", "--donor-model", donor, words=["L2"])


def test_model_of_another_output_size(data, refuse, tmp_path):
    model = small_gpt2(tmp_path / "model", vocab_size=50)
    refuse(data / "incident", "--model", model, words=["50 outputs"])


def test_model_directory_without_a_model(case, refuse):
    refuse(case / "incident", "--model", case / "benign", words=[case / "benign", "config.json"])
    (case / "model" / "model.safetensors").rename(case / "model" / "pytorch_model.bin")
    refuse(case / "incident", "--model", case / "model", words=[case / "model", "pickled"])
    refuse(case / "incident", "--model", case / "none", words=[case / "none"])


def test_bundle_that_names_a_broken_model_is_still_judged(run, case, fitted, tmp_path):
    (case / "model" / "model.safetensors").unlink()
    arguments = ["--baseline", fitted, "--output", tmp_path / "r.json", "--format", "json"]
    done = run("analyze", case / "incident", *arguments)
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["verdict"] == "anomaly_located"
    assert any("could not be loaded" in warning for warning in document["warnings"])


@pytest.mark.parametrize("command", ["report", "validate-fix", "diff"])
def test_results_of_another_version_are_refused_with_both_versions_and_the_cure(run, data, tmp_path, command):
    path = tmp_path / "alt.json"
    arguments = ["analyze", data / "incident", "--forensics-only", "--output", path]
    assert run(*arguments).exit_code == 0
    path.write_text(path.read_text().replace('"schema_version": "1.0"', '"schema_version": "0.9"', 1))
    more = {"report": ["--force"], "validate-fix": ["--model", data / "model"], "diff": [path]}
    done = run(command, path, *more[command])
    assert done.exit_code == 3
    assert f"error: {path}: schema_version is \"0.9\", and this release reads '1.0'." in done.stderr
    assert "Read it with the release that wrote it, or run the analysis again with this one" in done.stderr


def test_no_space_for_a_baseline(run, data, tmp_path, monkeypatch):
    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    done = run("build-baseline", data / "benign", "--output", tmp_path / "baseline")
    assert done.exit_code == 3, done.output
    assert str(tmp_path) in done.stderr
    assert "baseline" in done.stderr
    assert "No space left" in done.stderr
    assert list(tmp_path.iterdir()) == []
