"""Models and prompts of the patching benchmark: shapes of known models, random weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from model_forensics.models import Model, hooks
from model_forensics.types import Sample

SEED = 2026


def gpt2_small() -> torch.nn.Module:
    """GPT-2 small: 12 layers, 12 heads, 768 features, 50,257 tokens."""
    from transformers import GPT2Config, GPT2LMHeadModel  # noqa: PLC0415

    torch.manual_seed(SEED)
    return GPT2LMHeadModel(GPT2Config(architectures=["GPT2LMHeadModel"])).eval()


def llama_small() -> torch.nn.Module:
    """Llama's blocks at GPT-2 small's size: rotary positions, 12 query and 4 key heads, gated MLP."""
    from transformers import LlamaConfig, LlamaForCausalLM  # noqa: PLC0415

    torch.manual_seed(SEED)
    config = LlamaConfig(
        vocab_size=32000,
        hidden_size=768,
        intermediate_size=2048,
        num_hidden_layers=12,
        num_attention_heads=12,
        num_key_value_heads=4,
        architectures=["LlamaForCausalLM"],
    )
    return LlamaForCausalLM(config).eval()


SHAPES = {"gpt2": gpt2_small, "llama": llama_small}


@dataclass
class Prompt:
    """A recording of one prompt in memory: what the executor reads of a bundle."""

    ids: npt.NDArray[np.int64]
    bundle_id: str = "prompt"
    samples: list[Sample] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.samples = [Sample(sample_id="prompt", group="g0", call=0, row=0, tokens=self.ids.shape[1])]

    def inputs(self, _call: int) -> Mapping[str, npt.NDArray[Any]]:
        return {"input_ids": self.ids}


def prompts(tokens: int, classes: int) -> tuple[Prompt, Prompt]:
    """The prompt that fails, and the one that activations are taken from."""
    random = np.random.default_rng(SEED)
    first, second = (random.integers(0, classes, (1, tokens)) for _ in range(2))
    return Prompt(first), Prompt(second)


def activations(model: Model, prompt: Prompt, sites: list[str]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Per site [tokens, features] on the CPU, and the logits of the last token [classes]."""
    kept: dict[str, torch.Tensor] = {}
    taps = [model.sites.get(site) for site in sites]
    with (
        torch.no_grad(),
        hooks.read(model.module, taps, lambda tap, value: kept.__setitem__(tap.name, value[0].cpu().clone())),
    ):
        logits = model.forward({"input_ids": torch.from_numpy(prompt.ids)})
    return kept, logits[0, -1].cpu()
