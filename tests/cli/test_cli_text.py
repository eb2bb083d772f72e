"""A text failure from its recording to its proof, and donors that are given as files, by the commands."""

from __future__ import annotations

import json
import shutil

import jsonschema
import numpy as np
import pytest
import torch

from model_forensics import RCAPipeline, Recorder, load_bundle
from model_forensics.cca.sequences import own_tokens
from model_forensics.failure import Failure
from model_forensics.models import load_model
from model_forensics.report import results_schema

NEW_TOKENS = 4


@pytest.fixture(scope="module")
def told(data, tmp_path_factory):
    """Copies of the shipped models with a tokenizer beside the weights, and an incident of what the damaged says."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    home = tmp_path_factory.mktemp("told")
    for name in ("model", "reference"):
        shutil.copytree(data / name, home / name)
    words = load_model(home / "model", device="cpu").module.config.vocab_size
    inner = Tokenizer(models.WordLevel({f"w{number}": number for number in range(words)}, unk_token="w0"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    for name in ("model", "reference"):
        PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="w0").save_pretrained(home / name)
    broken, intact = (load_model(home / name, device="cpu") for name in ("model", "reference"))
    recorded = load_bundle(data / "incident")
    rows = [np.asarray(own_tokens(recorded, index)) for index in range(len(recorded.samples))]
    width = min(map(len, rows))
    prompts = torch.from_numpy(np.stack([row[:width] for row in rows])[:8])
    continued = {}
    for name, model in (("wrong", broken), ("right", intact)):
        tokens = model.module.generate(prompts, max_new_tokens=NEW_TOKENS, do_sample=False)[:, width:]
        continued[name] = [intact.tokenizer.decode(row) for row in tokens]
    chosen = [i for i, texts in enumerate(zip(*continued.values(), strict=True)) if texts[0] != texts[1]]
    assert len(chosen) >= 2, continued
    wrong = "^(" + "|".join(sorted({continued["wrong"][i] for i in chosen})) + ")$"
    failure = Failure.text(wrong, max_new_tokens=NEW_TOKENS)
    with Recorder(broken, sites="components").incident(home / "incident", failure=failure) as incident:
        incident.generate(input_ids=prompts[chosen], max_new_tokens=NEW_TOKENS)
    return home


def test_a_text_failure_end_to_end(run, told, tmp_path):
    path = tmp_path / "r.json"
    arguments = ["--model", told / "model", "--donor-model", told / "reference", "--output", path, "--format", "json"]
    done = run("analyze", told / "incident", *arguments)
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    jsonschema.validate(document, results_schema())
    assert document["verdict"] == "cause_found"
    assert [one["site"] for one in document["fix_set"]["interventions"]] == ["L2.mlp"]
    assert document["evidence"]["replay"]["reproduced"]
    assert "generated tokens" in document["incident"]["failure"]
    done = run("validate-fix", path, "--model", told / "model", "--format", "json")
    assert done.exit_code == 0, done.output
    validation = json.loads(done.stdout)
    assert validation["measured"]["flips"] == validation["recorded"]["flips"] > 0


def test_given_values_end_to_end(run, data, tmp_path):
    from safetensors.numpy import save_file

    incident = load_bundle(data / "incident")
    intact = load_model(data / "reference", device="cpu")
    values: dict[str, np.ndarray] = {}
    with Recorder(intact, sites=["L2.mlp"]).benign(tmp_path / "healthy") as healthy:
        for call in sorted({sample.call for sample in incident.samples}):
            healthy.run(**{name: np.array(value) for name, value in incident.inputs(call).items()})
    recorded = load_bundle(tmp_path / "healthy")
    for index, sample in enumerate(incident.samples):
        values[f"{sample.sample_id}/L2.mlp"] = np.array(recorded.activation("L2.mlp", index))
    save_file(values, tmp_path / "values.safetensors")
    path = tmp_path / "r.json"
    given = ["--donor-values", tmp_path / "values.safetensors"]
    done = run("analyze", data / "incident", *given, "--output", path, "--format", "json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    jsonschema.validate(document, results_schema())
    ones = [one for fix in (document["fix_set"], *document["workarounds"]) for one in fix["interventions"]]
    assert ("L2.mlp", "given") in [(one["site"], one["donor"]["kind"]) for one in ones if one["kind"] == "patch"]
    pipeline = RCAPipeline({"device": "cpu", "modules": {"cca": {"intervention_types": ["patch"]}}})
    found = pipeline.analyze_incident(data / "incident", donor_values=tmp_path / "values.safetensors", output=path)
    assert found.fix_set is not None
    assert str(found.fix_set) == "patch L2.mlp"
    assert found.verdict == "workaround_found"  # nothing shows that the values belong to these inputs
    assert run("validate-fix", path, "--model", data / "model").exit_code == 0
    values["elsewhere/L2.mlp"] = np.zeros(3, np.float32)
    save_file(values, tmp_path / "values.safetensors")
    done = run("validate-fix", path, "--model", data / "model")
    assert done.exit_code == 3
    assert "elsewhere" in done.stderr


def test_donors_that_contradict_one_another(run, data, tmp_path):
    output = ["--output", tmp_path / "r.json"]
    done = run("analyze", data / "incident", "--donor-model", data / "reference", "--donor-sample", "x", *output)
    assert done.exit_code == 2
    assert "asked for" in done.stderr
    done = run("analyze", data / "incident", "--forensics-only", "--donor-sample", "x", *output)
    assert done.exit_code == 2
    assert "--donor-sample" in done.stderr
    done = run("analyze", data / "incident", "--donor-values", tmp_path / "none.safetensors", *output)
    assert done.exit_code == 3
