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
    "last": "the last token is not seen",
}


def plant(case: Case) -> Planted:
    layer = int(case.random.integers(layers_of(case.module)))
    causal = attention_of(case.module, layer).is_causal
    way = str(case.random.choice(["ahead", "itself"])) if causal else "last"
    return Planted(f"in layer {layer} {WORDS[way]}", (f"L{layer}.attn",), {"layer": layer, "way": way})


def install(module: nn.Module, layer: int, way: str) -> None:
    change_mask(attention_of(module, layer), {"ahead": _ahead, "itself": _itself, "last": _last}[way])


def _ahead(seen: Tensor) -> Tensor:
    """All that the causal mask shows, and the key after the last of these."""
    return seen | seen.roll(1, -1).index_fill(-1, torch.tensor([0]), value=False)


def _itself(seen: Tensor) -> Tensor:
    """What comes after a query's own key, and that: hidden. The first token would see nothing, which kernels refuse."""
    queries, keys = seen.shape[-2:]
    own = torch.ones(queries, keys, dtype=torch.bool).triu(keys - queries)
    own[:, 0] = False
    return seen & ~own


def _last(seen: Tensor) -> Tensor:
    """The last key that any query sees: of rows with padding on the right, not the last column."""
    places = torch.arange(seen.shape[-1])
    last = torch.where(seen, places, -1).amax(-1, keepdim=True)
    return seen & (places != last)


KIND = Kind("mask_off_by_one", "software", ("gpt2", "llama"), plant, install)
