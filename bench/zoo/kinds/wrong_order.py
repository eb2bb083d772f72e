"""A converter that numbers layers wrongly: two layers' tensors of the same names are exchanged, all or one part's."""

from __future__ import annotations

import torch
from torch import nn

from bench.zoo.kind import Case, Kind, Planted
from bench.zoo.parts import COMPONENTS, Component, Part, layers_of, part

# Names are matched by patterns, one for each part of a layer: a wrong one exchanges that part alone.
SCOPES: tuple[tuple[Component, ...], ...] = (("attn",), ("mlp",), COMPONENTS)


def plant(case: Case) -> Planted:
    layers = sorted(case.random.choice(layers_of(case.module), size=2, replace=False).tolist())
    scope = SCOPES[int(case.random.integers(len(SCOPES)))]
    for kind in scope:
        first, second = (part(case.module, layer, kind) for layer in layers)
        for one, other in zip(_modules(first), _modules(second), strict=True):
            _exchange(one, other)
    what = " and ".join(scope)
    return Planted(
        f"the weights of {what} of layers {layers[0]} and {layers[1]} are exchanged",
        tuple(f"L{layer}.{kind}" for layer in layers for kind in scope),
    )


def _modules(one: Part) -> list[nn.Module]:
    return [module for module in (one.norm, *one.readers, one.writer) if module is not None]


@torch.no_grad()
def _exchange(one: nn.Module, other: nn.Module) -> None:
    for ours, theirs in zip(one.parameters(), other.parameters(), strict=True):
        kept = ours.clone()
        ours.copy_(theirs)
        theirs.copy_(kept)


KIND = Kind("wrong_order", "weights", ("gpt2", "llama", "minilm", "digits"), plant)
