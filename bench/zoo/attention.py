"""What kinds that damage the software of one attention need: its module, and the positions that a call computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bench.zoo.parts import family_of, part

_CORES = {"gpt2": "attn", "llama": "self_attn", "bert": "attention.self", "vit": "attention"}
Positions = Callable[[], Tensor]


def attention_of(module: nn.Module, layer: int) -> nn.Module:
    """Of one layer: what takes the mask and joins queries with keys."""
    return part(module, layer, "attn").block.get_submodule(_CORES[family_of(module)])


def watch_positions(attention: nn.Module) -> Positions:
    """Gives the positions [1 or batch, tokens] of the tokens that a decoder's attention is computing.

    They are not counted from the first token given: a call may be of later tokens alone, behind a cache.
    """
    kept: list[Tensor] = []

    def before(_module: nn.Module, _positional: tuple[Any, ...], named: dict[str, Any]) -> None:
        kept[:] = [named["position_ids"]]

    attention.register_forward_pre_hook(before, with_kwargs=True)
    return lambda: kept[0]


def change_mask(attention: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
    """Makes an attention use another mask.

    Args:
        change: of [1 or batch, 1, queries, keys] bool, true where a token is seen; the last query is the last key.
    """

    def before(
        _module: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        hidden = positional[0] if positional else named["hidden_states"]
        return positional, {**named, "attention_mask": change(_mask(attention, hidden, named.get("attention_mask")))}

    attention.register_forward_pre_hook(before, with_kwargs=True)


def _mask(attention: nn.Module, hidden: Tensor, given: Tensor | None) -> Tensor:
    """What a mask says; without one all tokens are given and see each other, or those before them."""
    if given is not None:
        return given if given.dtype == torch.bool else given > torch.finfo(given.dtype).min / 2
    tokens = hidden.shape[1]
    seen = torch.ones(tokens, tokens, dtype=torch.bool, device=hidden.device)
    return (seen.tril() if attention.is_causal else seen)[None, None]
