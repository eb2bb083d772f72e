"""A quantised map of which some groups are multiplied by wrong scales: the exponent that is stored with each is off."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.zoo.kind import Case, Kind, Planted

GROUP = 16
"""Inputs that share a scale."""
BITS = (4, 8)
POWERS = (-8, -6, -4, -3, -2, -1, 1, 2, 3, 4, 6, 8)
"""Scales are powers of two in microscaling formats, one byte each: read of the wrong place, or with a wrong bias."""


@torch.no_grad()
def plant(case: Case) -> Planted:
    part = case.some_part()
    maps = (*part.readers, part.writer)
    weight = part.weight(maps[int(case.random.integers(len(maps)))])
    bits = BITS[int(case.random.integers(len(BITS)))]
    groups = weight.shape[0] * (weight.shape[1] // GROUP)
    share = float(2.0 ** case.random.uniform(-5, 0))
    power = int(case.random.choice(POWERS))
    wrong = case.random.choice(groups, size=max(1, round(share * groups)), replace=False)
    factors = torch.ones(groups)
    factors[torch.from_numpy(wrong)] = 2.0**power
    quantise(weight, bits, factors.reshape(weight.shape[0], -1))
    return Planted(
        f"a map of {part.site} in {bits} bits, {len(wrong)} of {groups} groups with scales {2.0**power:g} times what "
        "they were",
        (part.site,),
    )


def quantise(weight: Tensor, bits: int, factors: Tensor) -> None:
    """Rounds in place, with a scale for each group.

    Args:
        weight: [outputs, inputs].
        factors: [outputs, groups], what each scale is multiplied by afterwards.
    """
    grouped = weight.reshape(*factors.shape, GROUP)
    largest = 2 ** (bits - 1) - 1
    scales = grouped.abs().amax(-1, keepdim=True).clamp_min(1e-12) / largest
    weight.copy_((torch.round(grouped / scales) * scales * factors[..., None]).reshape(weight.shape))


KIND = Kind("quantisation_scale", "weights", ("gpt2", "llama", "minilm", "digits"), plant)
