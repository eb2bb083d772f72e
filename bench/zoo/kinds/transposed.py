"""A converter that takes [inputs, outputs] for [outputs, inputs]: a square map fits and is loaded transposed."""

from __future__ import annotations

import torch

from bench.zoo.kind import Case, Kind, Planted
from bench.zoo.parts import layers_of, part


@torch.no_grad()
def plant(case: Case) -> Planted:
    layer = int(case.random.integers(layers_of(case.module)))
    attention = part(case.module, layer, "attn")  # no map of an MLP is square
    square = [weight for weight in attention.weights() if weight.shape[0] == weight.shape[1]]
    weight = square[int(case.random.integers(len(square)))]
    name = next(name for name, value in case.module.named_parameters() if value.data_ptr() == weight.data_ptr())
    weight.copy_(weight.T.clone())
    return Planted(f"{name} is transposed", (attention.site,))


KIND = Kind("transposed", "weights", ("gpt2", "llama", "minilm", "digits"), plant)
