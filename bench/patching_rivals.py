"""Other ways to run one activation patch: TransformerLens, nnsight, and one simple hook a forward."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import torch

from bench.patching_models import Prompt
from model_forensics.models import Model

Patch = tuple[str, int, int]
"""Kind (`attn`, `mlp` or `in`, what enters the block), layer, token."""
Answers = tuple[int, int]
Donor = Mapping[str, torch.Tensor]
Rival = Callable[[Sequence[Patch]], list[float]]
"""Runs patches one by one; the difference of two answers' logits at the last token after each."""


def site_of(patch: Patch) -> str:
    """The canonical site; what enters a block is what leaves the one before it."""
    kind, layer, _ = patch
    if kind != "in":
        return f"L{layer}.{kind}"
    return f"L{layer - 1}.resid" if layer else "embed"


def plain_hooks(model: Model, prompt: Prompt, donor: Donor, answers: Answers) -> Rival:
    """A forward hook that overwrites one token, and a whole forward for each patch."""
    ids = torch.from_numpy(prompt.ids).to(model.device)

    def one(patch: Patch) -> float:
        tap = model.sites.get(site_of(patch))
        value = donor[tap.name][patch[2]].to(model.device)

        def overwrite(_module: torch.nn.Module, _inputs: Any, output: Any) -> Any:
            hidden = (output[0] if isinstance(output, tuple) else output).clone()
            hidden[:, patch[2]] = value
            return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

        handle = model.module.get_submodule(tap.module).register_forward_hook(overwrite)
        try:
            with torch.no_grad():
                logits = model.module(input_ids=ids).logits[0, -1]
        finally:
            handle.remove()
        return float(logits[answers[0]] - logits[answers[1]])

    return lambda patches: [one(patch) for patch in patches]


def transformer_lens(model: Model, prompt: Prompt, donor_prompt: Prompt, answers: Answers) -> Rival | None:
    """`generic_activation_patch` on a copy of the module, which it rebuilds; None where it is not installed."""
    if find_spec("transformer_lens") is None:
        return None
    import pandas  # noqa: PLC0415
    from transformer_lens import patching  # noqa: PLC0415
    from transformer_lens.model_bridge import TransformerBridge  # noqa: PLC0415

    patching.tqdm = lambda items: items  # its progress bar would cost it time
    names = {"attn": "attn_out", "mlp": "mlp_out", "in": "resid_pre"}
    with tempfile.TemporaryDirectory() as folder:  # it reads the architecture from a directory, no weights
        model.module.config.save_pretrained(folder)  # type: ignore[union-attr,operator]
        bridge = TransformerBridge.boot_transformers(
            folder, hf_model=copy.deepcopy(model.module), tokenizer=_tokenizer(), device=str(model.device)
        )
    bridge.eval()
    ids = torch.from_numpy(prompt.ids).to(model.device)
    with torch.no_grad():
        _, cache = bridge.run_with_cache(torch.from_numpy(donor_prompt.ids).to(model.device))

    def run(patches: Sequence[Patch]) -> list[float]:
        found: dict[Patch, float] = {}
        for kind in dict.fromkeys(patch[0] for patch in patches):
            chosen = [patch for patch in patches if patch[0] == kind]
            with torch.no_grad():
                values = patching.generic_activation_patch(
                    bridge,
                    ids,
                    cache,
                    lambda logits: logits[0, -1, answers[0]] - logits[0, -1, answers[1]],
                    patching.layer_pos_patch_setter,
                    names[kind],
                    index_df=pandas.DataFrame([patch[1:] for patch in chosen], columns=["layer", "pos"]),
                )
            found.update(zip(chosen, values.tolist(), strict=True))
        return [found[patch] for patch in patches]

    return run


def nnsight(model: Model, prompt: Prompt, donor: Donor, answers: Answers) -> Rival | None:
    """One trace for each patch; None where nnsight is not installed."""
    if find_spec("nnsight") is None:
        return None
    from nnsight import NNsight  # noqa: PLC0415

    wrapped = NNsight(copy.deepcopy(model.module))
    ids = torch.from_numpy(prompt.ids).to(model.device)

    def one(patch: Patch) -> float:
        tap = model.sites.get(site_of(patch))
        value = donor[tap.name][patch[2]].to(model.device)
        position = patch[2]
        target = wrapped
        for part in tap.module.split("."):
            target = target[int(part)] if part.isdigit() else getattr(target, part)
        with torch.no_grad(), wrapped.trace(ids):
            target.output[:, position] = value
            logits = wrapped.lm_head.output.save()
        return float(logits[0, -1, answers[0]] - logits[0, -1, answers[1]])

    return lambda patches: [one(patch) for patch in patches]


def _tokenizer() -> Any:
    """TransformerLens wants one; the prompts are token ids, so any will do."""
    from tokenizers import Tokenizer, models  # noqa: PLC0415
    from transformers import PreTrainedTokenizerFast  # noqa: PLC0415

    words = Tokenizer(models.WordLevel({str(number): number for number in range(8)}, unk_token="0"))
    return PreTrainedTokenizerFast(tokenizer_object=words, eos_token="1", pad_token="2")
