"""A mask that is off by one in one layer: < in the place of <=, or a diagonal that is one too far up."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bench.zoo.attention import attention_of, change_mask
from bench.zoo.kind import Case, Kind, Planted
from bench.zoo.parts import layers_of

WORDS = {
    "ahead": "each token sees the next one",
    "itself": "no token but the first sees itself",
}


def plant(case: Case) -> Planted:
    layer = int(case.random.integers(layers_of(case.module)))
    way = str(case.random.choice(list(WORDS)))
    return Planted(f"in layer {layer} {WORDS[way]}", (f"L{layer}.attn",), {"layer": layer, "way": way})


def install(module: nn.Module, layer: int, way: str) -> None:
    change_mask(attention_of(module, layer), {"ahead": _ahead, "itself": _itself}[way])


def _ahead(seen: Tensor) -> Tensor:
    """All that the causal mask shows, and the next key; padding, which no query sees, stays unseen."""
    shifted = seen.roll(1, -1).index_fill(-1, torch.tensor([0]), value=False)
    return (seen | shifted) & seen.any(-2, keepdim=True)


def _itself(seen: Tensor) -> Tensor:
    """Without a query's own key. The first token would see nothing, which kernels refuse: it sees itself."""
    queries, keys = seen.shape[-2:]
    own = torch.ones(queries, keys, dtype=torch.bool).triu(keys - queries)
    others = seen & ~own
    return torch.where(others.any(-1, keepdim=True), others, seen)


KIND = Kind("mask_off_by_one", "software", ("gpt2", "llama"), plant, install)
