"""Bad memory: the same exponent bit of some of a map's weights, at equal distances, is flipped while they are fp16."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.zoo.kind import Case, Kind, Planted

MANTISSA, EXPONENT = 10, 5
"""Bits of fp16, as which weights are stored and sent."""
MOST = 16
"""At most one weight in so many is hit."""


@torch.no_grad()
def plant(case: Case) -> Planted:
    part = case.some_part()
    maps = (*part.readers, part.writer)
    number = int(case.random.integers(len(maps)))
    weight = part.weight(maps[number])
    count = round((weight.numel() / MOST) ** float(case.random.uniform(0, 1)))
    stride = weight.numel() // count
    places = int(case.random.integers(stride)) + stride * torch.arange(count)
    bit = int(case.random.integers(EXPONENT))
    rows, columns = places // weight.shape[1], places % weight.shape[1]
    weight[rows, columns] = flipped(weight[rows, columns], bit)
    return Planted(
        f"exponent bit {bit} flipped in {count} of {weight.numel()} weights of map {number} of {part.site}",
        (part.site,),
    )


def flipped(values: Tensor, bit: int) -> Tensor:
    """Float32 values of which one exponent bit, 0 (factor 2) to 4 (factor 65,536), changed while they were fp16."""
    bits = values.to(torch.float16).view(torch.int16) ^ (1 << (MANTISSA + bit))
    return bits.view(torch.float16).to(values.dtype)


KIND = Kind("flipped_bits", "weights", ("gpt2", "llama", "minilm", "digits"), plant)
