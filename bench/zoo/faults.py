"""Weight faults of any strength, for kinds that plant two of them and need each to be just so strong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from bench.zoo.batches import rights
from bench.zoo.kind import Case
from bench.zoo.network import Prompt
from bench.zoo.parts import Part

MOST_NOISE = 16.0  # standard deviations of a tensor's weights, as flipped high bits make it
MOST_GROWTH = 64.0
HALVINGS = 6
Damage = Callable[[float], Tensor]
"""The writer's weights, damaged by a strength from 0 to 1."""


@dataclass(frozen=True)
class Fault:
    """What happens to the map with which a component writes."""

    part: Part
    how: str
    damage: Damage

    @torch.no_grad()
    def put(self, strength: float) -> None:
        """In place; 0 takes it away."""
        self.part.weight(self.part.writer).copy_(self.damage(strength))

    def told(self, strength: float) -> str:
        return f"{self.part.site}: {self.how}, strength {strength:.2f}"


def some_fault(case: Case, part: Part) -> Fault:
    weight = part.weight(part.writer).clone()
    made: dict[str, Callable[[Tensor, np.random.Generator], Damage]] = {
        "noise": _noise, "weights pruned": _pruned, "too large": _grown,
    }  # fmt: skip
    how = str(case.random.choice(list(made)))
    return Fault(part, how, made[how](weight, case.random))


def _noise(weight: Tensor, random: np.random.Generator) -> Damage:
    noise = torch.from_numpy(random.normal(size=tuple(weight.shape)).astype(np.float32)) * weight.std()
    return lambda strength: weight + MOST_NOISE * strength**2 * noise


def _pruned(weight: Tensor, random: np.random.Generator) -> Damage:
    """Of all weights some, as much as the strength says."""
    ranks = torch.from_numpy(random.uniform(size=tuple(weight.shape)).astype(np.float32))
    return lambda strength: weight * (ranks >= strength)


def _grown(weight: Tensor, _random: np.random.Generator) -> Damage:
    """As a wrong scale of its quantisation would."""
    return lambda strength: weight * MOST_GROWTH**strength


def two_parts(case: Case) -> tuple[Part, Part]:
    """Different ones, in order of execution."""
    one, other = case.some_part(), case.some_part()
    while one.site == other.site:
        other = case.some_part()
    first, second = sorted((one, other), key=lambda each: (each.layer, each.kind))
    return first, second


def strength_for(failing: Callable[[float], float], share: float) -> float:
    """Where about this share of the prompts fails, found by halving; 1 where none is strong enough."""
    low, high = 0.0, 1.0
    if failing(high) < share:
        return high
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if failing(middle) >= share else (middle, high)
    return high


def put_all(faults: Sequence[Fault], strength: float) -> None:
    for fault in faults:
        fault.put(strength)


def failing_share(module: nn.Module, prompts: Sequence[Prompt], faults: Sequence[Fault], strength: float) -> float:
    """Of the prompts, with all faults at this strength; where they stay."""
    put_all(faults, strength)
    return 1 - float(rights(module, prompts).float().mean())
