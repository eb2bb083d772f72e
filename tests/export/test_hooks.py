"""Hooks on every family, kind of site, intervention and donor: alone, in padded batches and inside generation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from damaged import FAMILIES, generated, hook, patch, words

from model_forensics.errors import InterventionError
from model_forensics.types import Intervention

MODULES = {
    "gpt_neox": ("gpt_neox.layers.1.mlp.dense_4h_to_h", "gpt_neox.layers.1.attention.dense"),
}
CONSTANTS = [
    (family, kind, site)
    for family in FAMILIES
    for site in MODULES.get(family, ("L1.mlp", "L1.attn", "L1.head2", "L1.neuron5"))
    for kind in ("zero", "mean")
]
PATCHES = [
    (family, donor, site)
    for family in FAMILIES
    for site in MODULES.get(family, ("L1.mlp", "L1.head2", "L1.resid", "embed"))
    for donor in ("reference_model", "benign_sample")
]


def intervention(kind: str, site: str) -> Intervention:
    return Intervention(site=site, kind=kind)  # type: ignore[arg-type]


def relative(found: torch.Tensor, expected: np.ndarray) -> float:
    return float(np.abs(found.double().numpy() - expected).max() / np.abs(expected).max())


def gives_what_was_proven(case, fix, runs, *models) -> None:
    """One input at a time, and all of them in one padded batch; nothing is left behind."""
    module = models[0].module
    before = models[0].forward(case.padded())
    with fix.apply(*(model.module for model in models)), torch.no_grad():
        for run in runs.runs:
            inputs = {name: torch.from_numpy(np.array(value)) for name, value in run.inputs.items()}
            assert relative(module(**inputs).logits[0, -1], run.fixed) <= runs.tolerance
            assert relative(module(**inputs).logits[0, -1], run.failed) > 100 * runs.tolerance
        batch = module(**case.padded()).logits[:, -1]
        rows = [case.incident.samples[number].sample_id for number in range(len(batch))]
        for run in runs.runs:
            assert relative(batch[rows.index(run.sample_id)], run.fixed) < 1e-4
    assert torch.equal(models[0].forward(case.padded()), before)


@pytest.mark.parametrize(("family", "kind", "site"), CONSTANTS)
def test_a_constant_is_written_at_every_token(cases, tmp_path, family, kind, site):
    case = cases[family]
    runs = case.runs(intervention(kind, site))
    fix = hook(tmp_path, runs, case.broken)
    gives_what_was_proven(case, fix, runs, case.broken)
    with fix.apply(case.broken.module):  # as in production: generation, with keys and values kept and without
        said = [generated(case, use_cache=kept) for kept in (True, False)]
    assert torch.equal(*said)


@pytest.mark.parametrize(("family", "donor", "site"), PATCHES)
def test_a_patch_is_written_where_its_donor_ran(cases, tmp_path, family, donor, site):
    case = cases[family]
    live = donor == "reference_model"
    runs = case.runs(patch(site, donor), **({"donor_model": case.intact} if live else {}))
    models = [case.broken, case.intact] if live else [case.broken]
    gives_what_was_proven(case, hook(tmp_path, runs, case.broken, case.intact if live else None), runs, *models)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_reference_model_serves_generation_without_kept_values(cases, tmp_path, family):
    case = cases[family]
    site = "gpt_neox.final_layer_norm" if family == "gpt_neox" else "L2.resid"  # all that is damaged lies before it
    fix = hook(tmp_path, case.runs(patch(site, "reference_model"), donor_model=case.intact), case.broken, case.intact)
    with fix.apply(case.broken.module, case.intact.module):
        said = generated(case, use_cache=False)
        with pytest.raises(RuntimeError, match="use_cache=False"):
            generated(case, use_cache=True)
    whole = case.intact.module.generate(**case.padded(), max_new_tokens=6, do_sample=False, pad_token_id=0)
    assert torch.equal(said, whole)


def test_recorded_values_are_written_at_a_prompt_and_not_behind_it(cases, tmp_path):
    case = cases["gpt2"]
    fix = hook(tmp_path, case.runs(patch("L2.resid", "benign_sample")), case.broken)
    healthy = case.intact.forward(case.padded())[:, -1].argmax(dim=-1)
    plain = generated(case, use_cache=True)
    with fix.apply(case.broken.module):
        said = generated(case, use_cache=True)
        # A generated token that happens to be a whole recorded input is no input.
        fix.INPUTS = tuple((int(token),) for token in range(48))
        one = generated(case, use_cache=True, max_new_tokens=1)
    assert torch.equal(said[:, case.ids.shape[1]], healthy)
    assert not torch.equal(said, plain)
    assert one.shape[1] == case.ids.shape[1] + 1


def test_nothing_is_left_to_a_guess(cases, tmp_path):
    case = cases["gpt2"]
    fix = hook(tmp_path, case.runs(patch("L1.mlp", "benign_sample")), case.broken)
    with fix.apply(case.broken.module), pytest.raises(TypeError, match="input_ids by name"):
        case.broken.module(case.ids)
    one = patch("L1.mlp", "benign_sample").model_copy(update={"positions": (1,)})
    with pytest.raises(InterventionError, match="single positions"):
        case.runs(one)


# --- texts --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def told(cases, tmp_path_factory):
    """The damaged GPT-2 that generates something wrong, and what the intact one generated."""
    return words(cases["gpt2"], tmp_path_factory.mktemp("told"))


def alone(model, prompt, **options) -> tuple[int, ...]:
    """What the model generates behind one prompt."""
    ids = torch.tensor([prompt])
    options = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 6, "do_sample": False, **options}
    return tuple(model.module.generate(ids, **options, pad_token_id=0)[0, len(prompt) :].tolist())


def test_a_text_is_generated_as_it_was_proven(told, tmp_path):
    for number, one in enumerate((intervention("zero", "L1.mlp"), intervention("mean", "L1.head2"))):
        folder = tmp_path / str(number)
        folder.mkdir()
        runs = told.runs(one)
        fix = hook(folder, runs, told.broken)
        with fix.apply(told.broken.module):
            for run in runs.runs:
                assert alone(told.broken, run.told.prompt) == run.told.fixed
    assert any(run.told.fixed != run.told.failed for run in runs.runs)


def test_recorded_texts_are_known_by_their_prompts(told, tmp_path):
    runs = told.runs(patch("L2.resid", "benign_sample"))
    fix = hook(tmp_path, runs, told.broken)
    assert [known[:prompt] for known, prompt in fix.INPUTS] == [run.told.prompt for run in runs.runs]
    for run in runs.runs:
        healthy = alone(told.intact, run.told.prompt)
        assert run.told.fixed == healthy  # all that is damaged is written over, and the donor goes on as the fix does
        plain = alone(told.broken, run.told.prompt)
        with fix.apply(told.broken.module):
            assert alone(told.broken, run.told.prompt, use_cache=False) == healthy
            with pytest.raises(RuntimeError, match="use_cache=False"):
                alone(told.broken, run.told.prompt, use_cache=True)
            other = (*run.told.prompt[:-1], 7)
            unknown = alone(told.broken, other, use_cache=True)
        assert unknown == alone(told.broken, other)
        assert plain == run.told.failed != healthy


def test_a_reference_model_goes_along_with_a_text(told, tmp_path):
    runs = told.runs(patch("L2.resid", "reference_model"), donor_model=told.intact)
    fix = hook(tmp_path, runs, told.broken, told.intact)
    with fix.apply(told.broken.module, told.intact.module):
        for run in runs.runs:
            assert alone(told.broken, run.told.prompt, use_cache=False) == run.told.fixed
