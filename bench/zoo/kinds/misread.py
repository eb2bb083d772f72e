"""A loader that is one block off: an output projection's channels are their neighbours', with another block's scale.

The incident of `model-forensics demo` is one of these, in the network `lookup`.
"""

from __future__ import annotations

import torch

from bench.zoo.kind import Case, Kind, Planted

SCALES = (1, 4, 16, 64)
"""Ratios of the scale that was read to the right one."""


@torch.no_grad()
def plant(case: Case) -> Planted:
    part = case.some_part()
    weight = part.weight(part.writer)
    scale = int(case.random.choice(SCALES))
    weight.copy_(scale * weight.roll(1, dims=0))
    return Planted(f"output channels of {part.site} shifted by one, scale {scale} times what it was", (part.site,))


KIND = Kind("misread", "weights", ("lookup", "gpt2", "llama", "digits"), plant)
