"""Many prompts at once: what kinds need that train a network, or try many faults before they plant one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from bench.zoo.network import Network, Prompt
from bench.zoo.training import Step, fit, last_logits

ASKED = {"minilm": 40}
"""Prompts that a kind tries its faults on; 120 otherwise."""


def same_shapes(prompts: Sequence[Prompt]) -> list[list[int]]:
    """Numbers of the prompts that fit in one batch without padding."""
    found: dict[tuple[tuple[int, ...], ...], list[int]] = {}
    for number, prompt in enumerate(prompts):
        found.setdefault(tuple(tuple(value.shape) for value in prompt.inputs.values()), []).append(number)
    return list(found.values())


def stacked(prompts: Sequence[Prompt]) -> dict[str, Tensor]:
    """Inputs of prompts of one shape, as one batch."""
    return {name: torch.cat([prompt.inputs[name] for prompt in prompts]) for name in prompts[0].inputs}


@torch.no_grad()
def logits_of(module: nn.Module, prompts: Sequence[Prompt]) -> Tensor:
    """[prompts, classes], of the last token."""
    rows: dict[int, Tensor] = {}
    for numbers in same_shapes(prompts):
        logits = last_logits(module, stacked([prompts[number] for number in numbers]))
        rows.update(zip(numbers, logits, strict=True))
    return torch.stack([rows[number] for number in range(len(prompts))])


def rights(module: nn.Module, prompts: Sequence[Prompt]) -> Tensor:
    """[prompts] whether the right answer is preferred; never where a value is not finite."""
    logits = logits_of(module, prompts)
    right = torch.tensor([prompt.right for prompt in prompts])
    return (logits.argmax(-1) == right) & logits.isfinite().all(-1)


def right_prompts(network: Network, healthy: nn.Module, random: np.random.Generator) -> list[Prompt]:
    """Some that the healthy network is right about."""
    prompts = network.prompts(random, ASKED.get(network.name, 120))
    return [prompt for prompt, right in zip(prompts, rights(healthy, prompts).tolist(), strict=True) if right]


def lessons(prompts: Sequence[Prompt], random: np.random.Generator, size: int) -> Callable[[int], Step]:
    """Batches of prompts, with their right answers, for `fit`."""
    shapes = same_shapes(prompts)
    shares = np.array([len(numbers) for numbers in shapes]) / len(prompts)

    def batch(_step: int) -> Step:
        numbers = random.choice(shapes[int(random.choice(len(shapes), p=shares))], size=size)
        chosen = [prompts[int(number)] for number in numbers]
        return Step(stacked(chosen), torch.tensor([prompt.right for prompt in chosen]))

    return batch


def fine_tune(
    module: nn.Module,
    prompts: Sequence[Prompt],
    random: np.random.Generator,
    modules: Sequence[nn.Module],
    *,
    steps: int,
    rate: float,
) -> None:
    """Trains the weights of some of its modules alone on the prompts, in place."""
    torch.manual_seed(int(random.integers(2**31)))  # dropout
    parameters = list({id(one): one for part in modules for one in part.parameters()}.values())
    fit(module, lessons(prompts, random, 32), steps, rate=rate, parameters=parameters)
