"""Small random models, one for each family."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

transformers = pytest.importorskip("transformers", reason="the hf extra is not installed")

VOCABULARY = 40
_DECODER = {
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_size": 16,
    "intermediate_size": 24,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 64,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}


def gpt2() -> nn.Module:
    config = transformers.GPT2Config(
        n_layer=3, n_head=4, n_embd=16, vocab_size=VOCABULARY, n_positions=64, bos_token_id=None, eos_token_id=None
    )
    return transformers.GPT2LMHeadModel(config)


def llama() -> nn.Module:
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**_DECODER))


def qwen2() -> nn.Module:
    return transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**_DECODER))


def qwen3() -> nn.Module:
    # heads wider than width / heads: the projection is not square
    return transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**_DECODER, head_dim=8))


def mistral() -> nn.Module:
    return transformers.MistralForCausalLM(transformers.MistralConfig(**_DECODER))


def bert() -> nn.Module:
    config = transformers.BertConfig(
        num_hidden_layers=3, num_attention_heads=4, hidden_size=16, intermediate_size=24, vocab_size=VOCABULARY
    )
    return transformers.BertForSequenceClassification(config)


def vit() -> nn.Module:
    config = transformers.ViTConfig(
        num_hidden_layers=3, num_attention_heads=4, hidden_size=16, intermediate_size=24, image_size=16, patch_size=8
    )
    return transformers.ViTForImageClassification(config)


BUILDERS: dict[str, Callable[[], nn.Module]] = {
    builder.__name__: builder for builder in (gpt2, llama, qwen2, qwen3, mistral, bert, vit)
}
CAUSAL = ("gpt2", "llama", "qwen2", "qwen3", "mistral")


@pytest.fixture
def build() -> Callable[[str], nn.Module]:
    """Builds a family's random model, with weights large enough that every component matters."""

    def builder(family: str) -> nn.Module:
        torch.manual_seed(0)
        module = BUILDERS[family]().eval()
        with torch.no_grad():
            for parameter in module.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(std=0.3)
        return module

    return builder


@pytest.fixture
def example() -> Callable[[str], dict[str, Tensor]]:
    """Inputs of a family: two samples, without padding."""

    def inputs(family: str) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(1)
        if family == "vit":
            return {"pixel_values": torch.randn(2, 3, 16, 16, generator=generator)}
        return {"input_ids": torch.randint(0, VOCABULARY, (2, 7), generator=generator)}

    return inputs
