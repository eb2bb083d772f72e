"""Tiny random causal models of every family that is run from its middle, and some that are not."""

from __future__ import annotations

from collections.abc import Callable

import torch

VOCABULARY = 48
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "head_dim": 8,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}


def gpt2(attention: str) -> torch.nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = {"vocab_size": VOCABULARY, "n_positions": 64, "n_embd": 32, "n_layer": 3, "n_head": 4}
    return GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=None, eos_token_id=None, attn_implementation=attention))


def llama(attention: str) -> torch.nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(**SIZES, attn_implementation=attention))


def qwen2(attention: str) -> torch.nn.Module:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    sizes = {key: value for key, value in SIZES.items() if key != "head_dim"}
    return Qwen2ForCausalLM(Qwen2Config(**sizes, attn_implementation=attention))


def qwen3(attention: str) -> torch.nn.Module:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    return Qwen3ForCausalLM(Qwen3Config(**SIZES, attn_implementation=attention))


def mistral(attention: str) -> torch.nn.Module:
    """With a sliding window shorter than the prompts."""
    from transformers import MistralConfig, MistralForCausalLM

    return MistralForCausalLM(MistralConfig(**SIZES, sliding_window=4, attn_implementation=attention))


def gemma(attention: str) -> torch.nn.Module:
    from transformers import GemmaConfig, GemmaForCausalLM

    return GemmaForCausalLM(GemmaConfig(**SIZES, attn_implementation=attention))


def gemma2(_attention: str) -> torch.nn.Module:
    """Norms after the branches, alternating sliding windows, capped scores (which only eager has) and logits."""
    from transformers import Gemma2Config, Gemma2ForCausalLM

    return Gemma2ForCausalLM(
        Gemma2Config(**SIZES, sliding_window=4, query_pre_attn_scalar=8, attn_implementation="eager")
    )


def gemma3(attention: str) -> torch.nn.Module:
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    config = Gemma3TextConfig(
        **SIZES, sliding_window=4, query_pre_attn_scalar=8, sliding_window_pattern=2, attn_implementation=attention
    )
    return Gemma3ForCausalLM(config)


FAMILIES: dict[str, Callable[[str], torch.nn.Module]] = {
    build.__name__: build for build in (gpt2, llama, qwen2, qwen3, mistral, gemma, gemma2, gemma3)
}


def make(family: str, attention: str = "sdpa", dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    """The model in evaluation mode, with weights large enough that all layers matter beside the embedding."""
    torch.manual_seed(0)
    module = FAMILIES[family](attention).eval()
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.ndim == 2 and "embed" not in name and "wte" not in name and "lm_head" not in name:
                parameter.mul_(6.0)
    return module.to(dtype)
