"""Small models of several families, everything before their last norm damaged, and recordings of them."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import transformers

from model_forensics import Recorder, load_bundle
from model_forensics.cca import fixed_runs
from model_forensics.config import CausalConfig
from model_forensics.export.hook_text import compose
from model_forensics.failure import Failure
from model_forensics.models import Model, load_model
from model_forensics.types import Donor, FixedRuns, FixSet, Interval, Intervention, Recording

VOCABULARY = 48
_DECODER = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": 0,
}


def _gpt2() -> torch.nn.Module:
    sizes = {"vocab_size": VOCABULARY, "n_positions": 64, "n_embd": 32, "n_layer": 3, "n_head": 4}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, bos_token_id=None, eos_token_id=None))


def _llama() -> torch.nn.Module:
    config = transformers.LlamaConfig(**_DECODER, intermediate_size=48, num_key_value_heads=2)
    return transformers.LlamaForCausalLM(config)


def _gpt_neox() -> torch.nn.Module:
    return transformers.GPTNeoXForCausalLM(transformers.GPTNeoXConfig(**_DECODER, intermediate_size=48))


FAMILIES: dict[str, Callable[[], torch.nn.Module]] = {"gpt2": _gpt2, "llama": _llama, "gpt_neox": _gpt_neox}
"""How to build one. The sites of the last one are module paths."""
_READOUT = ("wte", "lm_head", "embed_out")  # what is left as it was


@dataclass
class Case:
    """A damaged model, what it was, and what both did on the same prompts; the prompts are padded on the left."""

    intact: Model
    broken: Model
    incident: Recording
    benign: Recording
    ids: torch.Tensor
    mask: torch.Tensor
    config: CausalConfig = field(default_factory=lambda: CausalConfig(refine=False))

    def runs(self, *interventions: Intervention, **healthy: Any) -> FixedRuns:
        given = {"benign": [self.benign], **healthy}
        return fixed_runs(self.broken, self.incident, fix_set(*interventions), **given, config=self.config)

    def padded(self) -> dict[str, torch.Tensor]:
        return {"input_ids": self.ids, "attention_mask": self.mask}


def fix_set(*interventions: Intervention) -> FixSet:
    """A set whose measurements nobody looks at."""
    return FixSet(
        interventions=interventions, label="cause", sufficient=True, flips=1, samples=1, groups=1, flip_rate=1.0,
        flip_interval=Interval(low=0.0, high=1.0), suppressed=0, in_sample=False, recovery=None,
        explained_away=None, necessity=(), side_effects=None, minimality="none", bits_replaced=None,
    )  # fmt: skip


def patch(site: str, kind: str) -> Intervention:
    return Intervention(site=site, kind="patch", donor=Donor(kind=kind, source=None, same_input=True))  # type: ignore[arg-type]


def made(family: str) -> tuple[Model, Model]:
    """The intact model and the damaged one."""
    torch.manual_seed(0)
    module = FAMILIES[family]().eval()
    _change(module, lambda weight: 6 * weight)  # so large that all layers matter beside the embedding
    broken = copy.deepcopy(module)
    _change(broken, lambda weight: weight + torch.randn(weight.shape) * weight.std())
    return Model.wrap(module), Model.wrap(broken)


def _change(module: torch.nn.Module, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if weight.ndim == 2 and not any(word in name for word in _READOUT):
                weight.copy_(change(weight))


def recorded(family: str, home: Path) -> Case:
    intact, broken = made(family)
    ids = torch.tensor([[0, 0, 11, 12, 13], [21, 22, 23, 24, 25], [0, 31, 32, 33, 34], [0, 0, 0, 41, 42]])
    inputs = {"input_ids": ids, "attention_mask": (ids > 0).long()}
    right = intact.forward(inputs)[:, -1].argmax(dim=-1)
    assert not torch.equal(broken.forward(inputs)[:, -1].argmax(dim=-1), right), "something fails"
    answers = {"groups": [f"prompt-{row}" for row in range(4)], "right": [[int(one)] for one in right]}
    with Recorder(broken, sites="all").incident(home / "incident", failure=Failure.token()) as incident:
        incident.run(**inputs, **answers)
    with Recorder(intact, sites="all").benign(home / "benign") as benign:
        benign.run(**inputs, **answers)
    return Case(
        intact, broken, load_bundle(home / "incident"), load_bundle(home / "benign"), ids, inputs["attention_mask"]
    )


class Numbers:
    """Says every token as its number."""

    def decode(self, tokens: Sequence[int], *, skip_special_tokens: bool) -> str:
        assert skip_special_tokens
        return " ".join(map(str, tokens))

    def get_vocab(self) -> dict[str, int]:
        return {str(number): number for number in range(VOCABULARY)}


def words(case: Case, home: Path) -> Case:
    """The case as a failure of kind `text`: what is wrong is what the damaged model generates."""
    intact, broken = (Model.wrap(model.module, tokenizer=Numbers()) for model in (case.intact, case.broken))
    wrong = [" ".join(map(str, row.tolist())) for row in generated(case, use_cache=True)[:, case.ids.shape[1] :]]
    groups = [f"prompt-{row}" for row in range(len(wrong))]
    failure = Failure.text("^(" + "|".join(wrong) + ")$", max_new_tokens=6)
    with Recorder(broken, sites="all").incident(home / "incident", failure=failure) as incident:
        incident.generate(**case.padded(), max_new_tokens=6, groups=groups)
    with Recorder(intact, sites="all").benign(home / "benign") as benign:
        benign.generate(**case.padded(), max_new_tokens=6, groups=groups)
    recordings = [load_bundle(home / name) for name in ("incident", "benign")]
    return Case(intact, broken, *recordings, case.ids, case.mask)


def nan_case(case: Case, home: Path) -> Case:
    """The case as a failure of kind `nonfinite`: one MLP of the model, saved in a directory, computes NaN."""
    module = copy.deepcopy(case.intact.module)
    with torch.no_grad():
        module.model.layers[1].mlp.down_proj.weight[3] = torch.nan  # type: ignore[union-attr,index]
    module.save_pretrained(home / "model")  # type: ignore[operator]
    broken = load_model(home / "model", device="cpu")
    with Recorder(broken, sites="all").incident(home / "incident", failure=Failure.nonfinite()) as incident:
        incident.run(**case.padded(), groups=[f"prompt-{row}" for row in range(len(case.ids))])
    return replace(case, broken=broken, incident=load_bundle(home / "incident"))


def generated(case: Case, *, use_cache: bool, max_new_tokens: int = 6) -> torch.Tensor:
    """What the damaged model generates, prompts included."""
    tokens: torch.Tensor = case.broken.module.generate(  # type: ignore[operator]
        **case.padded(), max_new_tokens=max_new_tokens, do_sample=False, use_cache=use_cache, pad_token_id=0
    )
    return tokens


def hook(folder: Path, runs: FixedRuns, model: Model, donor: Model | None = None) -> ModuleType:
    """The hook as a module."""
    digest = model.reference.weights_digest
    assert digest is not None
    donor_digest = None if donor is None else donor.reference.weights_digest
    written = compose(runs, about=["test"], model_digest=digest, donor_digest=donor_digest, beside_name="fix.bin")
    path = folder / "fix.py"
    path.write_text(written.text)
    if written.beside is not None:
        path.with_suffix(".bin").write_bytes(written.beside)
    return loaded(path)


def loaded(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("exported", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
