"""A bad merge: a low-rank adapter that does no harm at its own scale is merged into one map ten times too strong."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from bench.zoo.kind import Case, Kind, Planted
from bench.zoo.network import Prompt
from bench.zoo.parts import Part, part
from bench.zoo.training import last_logits

TIMES = 10
TAUGHT, CHECKED = 32, 50
HARMLESS = 0.02
"""Answers that an adapter may change at its own scale."""


@torch.no_grad()
def plant(case: Case) -> Planted:
    where = case.some_part()
    number = int(case.random.integers(1 + len(where.readers)))
    rank = int(case.random.choice([1, 2, 4, 8]))
    size = float(10.0 ** case.random.uniform(-2.5, -0.9))
    weight = _map(where, number)
    update = adapter(case, where, number, rank)
    update *= size * weight.norm() / update.norm()
    asked = case.network.prompts(case.random, CHECKED)
    while (changed := _changed(case, where, number, update, asked)) > HARMLESS:
        update, size = update / 2, size / 2
    weight += TIMES * update
    return Planted(
        f"an adapter of rank {rank} and {size:.2g} of the norm of a map of {where.site}, merged {TIMES} times too "
        f"strong; at its own scale it changes {changed:.1%} of the answers",
        (where.site,),
    )


def adapter(case: Case, where: Part, number: int, rank: int) -> Tensor:
    """[outputs, inputs]: where a short training on another task would move the map, in so few dimensions.

    The task: the same questions, each answer replaced by another, always the same one.
    """
    student = copy.deepcopy(case.healthy)
    theirs = part(student, where.layer, where.kind)
    chosen = (*theirs.readers, theirs.writer)[number]
    stored = chosen.weight
    assert isinstance(stored, Tensor)
    student.requires_grad_(False)  # nothing else is trained
    stored.requires_grad_(True)
    classes: Tensor | None = None
    with torch.enable_grad():
        for prompt in case.network.prompts(case.random, TAUGHT):
            logits = last_logits(student, prompt.inputs)
            if classes is None:
                classes = torch.from_numpy(case.random.permutation(logits.shape[-1]))
            answer = classes[torch.tensor([prompt.right])]
            nn.functional.cross_entropy(logits, answer).backward()  # type: ignore[no-untyped-call]
    assert stored.grad is not None
    gradient = stored.grad.T if where.transposed else stored.grad
    left, values, right = torch.linalg.svd(gradient, full_matrices=False)
    update: Tensor = -(left[:, :rank] * values[:rank]) @ right[:rank]
    return update


def _map(where: Part, number: int) -> Tensor:
    return where.weight((*where.readers, where.writer)[number])


def _changed(case: Case, where: Part, number: int, update: Tensor, asked: list[Prompt]) -> float:
    """The share of answers that the adapter changes at its own scale."""
    adapted = copy.deepcopy(case.healthy)
    _map(part(adapted, where.layer, where.kind), number).add_(update)
    differ = [
        int(last_logits(adapted, prompt.inputs).argmax()) != int(last_logits(case.healthy, prompt.inputs).argmax())
        for prompt in asked
    ]
    return sum(differ) / len(differ)


KIND = Kind("adapter_merge", "weights", ("gpt2", "llama", "minilm", "digits"), plant)
