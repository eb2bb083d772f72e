"""A prefix cache whose key is too short: in one layer the first tokens' keys and values are another request's."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from bench.zoo.attention import Positions, attention_of, watch_positions
from bench.zoo.kind import Case, Kind, Planted
from bench.zoo.parts import layers_of, part

FEWEST, MOST = 2, 6
_Hook = Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]


def plant(case: Case) -> Planted:
    layer = int(case.random.integers(layers_of(case.module)))
    count = int(case.random.integers(FEWEST, MOST + 1))
    tokens = case.network.prompts(case.random, 1)[0].inputs["input_ids"][0, :count].tolist()
    return Planted(
        f"keys and values of the first {len(tokens)} tokens in layer {layer} are those of tokens {tokens}",
        (f"L{layer}.attn",),
        {"layer": layer, "tokens": tokens},
    )


def install(module: nn.Module, layer: int, tokens: Sequence[int]) -> None:
    attention = attention_of(module, layer)
    kept = _computed(module, layer, tokens)  # before anything watches
    positions = watch_positions(attention)
    for reader, values in kept:
        # Of GPT-2, one map makes the queries too, which come first and are this request's own.
        first = 0 if len(kept) > 1 else values.shape[-1] // 3
        reader.register_forward_hook(_given(positions, values, first))


def _given(positions: Positions, values: Tensor, first: int) -> _Hook:
    def after(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        at = positions()
        stale = values[at.clamp_max(len(values) - 1)]
        output = output.clone()
        output[..., first:] = torch.where((at < len(values))[..., None], stale, output)[..., first:]
        return output

    return after


@torch.no_grad()
def _computed(module: nn.Module, layer: int, tokens: Sequence[int]) -> list[tuple[nn.Module, Tensor]]:
    """The maps that make keys and values, and what they give for the other request, [tokens, features]."""
    readers = part(module, layer, "attn").readers
    makers = readers[1:] or readers
    found: list[tuple[nn.Module, Tensor]] = []
    handles = [
        maker.register_forward_hook(lambda maker, _inputs, output: found.append((maker, output[0].clone())))
        for maker in makers
    ]
    module(input_ids=torch.tensor([list(tokens)]))
    for handle in handles:
        handle.remove()
    return found


KIND = Kind("stale_cache", "software", ("gpt2", "llama"), plant, install)
