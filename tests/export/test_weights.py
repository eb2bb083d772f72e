"""Edited weights, written and loaded again: of every family, in shards, with shared weights, and of texts."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from damaged import Numbers, nan_case, patch, words

from model_forensics.errors import InterventionError
from model_forensics.export import write_hook, write_weights
from model_forensics.models import Model, load_model
from model_forensics.types import Intervention


def intervention(kind: str, site: str) -> Intervention:
    return Intervention(site=site, kind=kind)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def on_disk(cases, tmp_path_factory):
    """The damaged models as another process finds them."""
    home = tmp_path_factory.mktemp("models")
    for family, case in cases.items():
        case.broken.module.save_pretrained(home / family)
    return {family: replace(case, broken=load_model(home / family, device="cpu")) for family, case in cases.items()}


@pytest.mark.parametrize(
    ("family", "kind", "site"),
    [
        ("gpt2", "mean", "L1.mlp"),
        ("gpt2", "mean", "L1.head2"),
        ("gpt2", "mean", "L1.neuron5"),
        ("llama", "zero", "L1.attn"),
        ("llama", "zero", "L1.head2"),
        ("gpt_neox", "mean", "gpt_neox.layers.1.mlp.dense_4h_to_h"),
    ],
)
def test_a_constant_becomes_weights(on_disk, tmp_path, family, kind, site):
    case = on_disk[family]
    runs, before = case.runs(intervention(kind, site)), case.broken.forward(case.padded())
    written = write_weights(tmp_path / "fixed", runs, case.broken, None, record={"about": ["test"]})
    assert written.error <= runs.tolerance
    assert torch.equal(case.broken.forward(case.padded()), before)  # the model itself is as it was
    again = load_model(tmp_path / "fixed", device="cpu")
    for run in runs.runs:
        inputs = {name: torch.from_numpy(np.array(value)) for name, value in run.inputs.items()}
        found = again.forward(inputs)[0, -1].double().numpy()
        np.testing.assert_allclose(found, run.fixed, rtol=0, atol=runs.tolerance * np.abs(run.fixed).max())
    assert json.loads((tmp_path / "fixed" / "fix.json").read_text())["changed"] == list(written.changed)


def test_a_mean_that_a_map_without_bias_cannot_hold_is_refused(on_disk, tmp_path):
    case = on_disk["llama"]
    with pytest.raises(InterventionError, match=r"L1\.mlp: .*no bias to hold the values.*--export-hook"):
        write_weights(tmp_path / "fixed", case.runs(intervention("mean", "L1.mlp")), case.broken, None, record={})
    assert list(tmp_path.iterdir()) == []


def test_shards_and_shared_weights(on_disk, tmp_path, monkeypatch):
    """Large models are written in several files; the embedding of this one is also its readout."""
    case = on_disk["gpt2"]
    save = type(case.broken.module).save_pretrained
    monkeypatch.setattr(
        type(case.broken.module), "save_pretrained", lambda self, place: save(self, place, max_shard_size="20KB")
    )
    write_weights(tmp_path / "fixed", case.runs(intervention("zero", "L1.mlp")), case.broken, None, record={})
    assert len(list((tmp_path / "fixed").glob("*.safetensors"))) > 2
    again = load_model(tmp_path / "fixed", device="cpu").module
    assert again.lm_head.weight.data_ptr() == again.transformer.wte.weight.data_ptr()


def test_weights_and_hooks_of_a_text_are_checked_in_generation(on_disk, cases, tmp_path):
    case = on_disk["gpt2"]
    told = words(cases["gpt2"], tmp_path / "recordings")
    told = replace(told, broken=Model(case.broken.module, source=case.broken.source, tokenizer=Numbers()))
    runs = told.runs(intervention("mean", "L1.mlp"))
    write_weights(tmp_path / "fixed", runs, case.broken, None, record={})
    assert write_hook(tmp_path / "fix.py", runs, case.broken, None, about=["test"]) <= runs.tolerance
    recorded = told.runs(patch("L2.resid", "benign_sample"))
    assert write_hook(tmp_path / "recorded.py", recorded, case.broken, None, about=["test"]) <= runs.tolerance
    first = runs.runs[0]
    said = replace(first.told, fixed=(*first.told.fixed[:-1], (first.told.fixed[-1] + 1) % 48))
    other = replace(runs, runs=(replace(first, told=said), *runs.runs[1:]))
    with pytest.raises(InterventionError, match=f"continues 1 of {len(runs.runs)} samples otherwise"):
        write_weights(tmp_path / "other", other, case.broken, None, record={})
    with pytest.raises(InterventionError, match=f"1 of {len(runs.runs)} samples are continued otherwise"):
        write_hook(tmp_path / "other.py", other, case.broken, None, about=["test"])
    assert not (tmp_path / "other").exists()
    assert not (tmp_path / "other.py").exists()


def test_a_hook_of_a_failure_with_nan(cases, tmp_path):
    """The outputs that fail are NaN, and so is what stands at the padding."""
    case = nan_case(cases["llama"], tmp_path)
    for number, one in enumerate((intervention("zero", "L1.mlp"), patch("L1.mlp", "benign_sample"))):
        runs = case.runs(one)
        assert all(np.isnan(run.failed).all() and np.isfinite(run.fixed).all() for run in runs.runs)
        assert write_hook(tmp_path / f"{number}.py", runs, case.broken, None, about=["test"]) <= runs.tolerance
