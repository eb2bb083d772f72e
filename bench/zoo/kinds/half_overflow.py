"""A fused kernel that keeps what is inside one component in fp16 at a fixed scale: the largest values overflow.

Such scales are found on requests that were at hand, and hold until others come.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.zoo.kind import NOT_FINITE, Case, Kind, Planted
from bench.zoo.network import Prompt
from bench.zoo.parts import Component, Part, part
from model_forensics.failure import Failure

ASKED = 64
_LARGEST = torch.finfo(torch.float16).max


def plant(case: Case) -> Planted:
    where = case.some_part()
    largest = [_largest(case, where, prompt) for prompt in case.network.prompts(case.random, ASKED)]
    held = float(np.quantile(largest, case.random.uniform(0.1, 0.9)))
    scale = _LARGEST / held
    return Planted(
        f"what the last map of {where.site} reads is kept in fp16, {scale:.4g} times as large: from {held:.4g} on it "
        "overflows",
        (where.site,),
        {"layer": where.layer, "component": where.kind, "scale": scale},
    )


@torch.no_grad()
def _largest(case: Case, where: Part, prompt: Prompt) -> float:
    """Of the values that the last map reads."""
    found: list[float] = []
    handle = where.writer.register_forward_pre_hook(lambda _module, inputs: found.append(float(inputs[0].abs().max())))
    case.module(**prompt.inputs)
    handle.remove()
    return max(found)


def install(module: nn.Module, layer: int, component: Component, scale: float) -> None:
    def before(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Any, ...]:
        return ((inputs[0] * scale).to(torch.float16).to(inputs[0].dtype) / scale, *inputs[1:])

    part(module, layer, component).writer.register_forward_pre_hook(before)


def overflows(prompt: Prompt, answer: int, healthy_answer: int) -> bool:
    return answer == NOT_FINITE and healthy_answer == prompt.right


KIND = Kind(
    "half_overflow", "software", ("gpt2", "llama", "minilm", "digits"), plant, install, overflows, Failure.nonfinite()
)
