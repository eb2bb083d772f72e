"""Training of the zoo's small networks, deterministic on one machine."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from model_forensics.models.values import output_tensor

EARLIER = 0.1
"""Of the training, where the earlier checkpoint is taken: later ones work as well as the last, layer for layer."""


class Step(NamedTuple):
    """A batch.

    Attributes:
        inputs: of the module.
        answers: [batch] classes at the last position; or [batch, tokens], -100 where nothing is to be predicted.
    """

    inputs: dict[str, Tensor]
    answers: Tensor


@dataclass(frozen=True)
class Trained:
    """Both in evaluation mode.

    Attributes:
        earlier: the module some training before.
    """

    module: nn.Module
    earlier: nn.Module


def last_logits(module: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    """[batch, classes], of the last token where there are tokens."""
    logits = output_tensor(module(**inputs), "")
    return logits[:, -1] if logits.ndim == 3 else logits


def fit(
    module: nn.Module,
    batch: Callable[[int], Step],
    steps: int,
    *,
    rate: float,
    parameters: Iterable[Tensor] | None = None,
) -> Trained:
    """The module, trained in place.

    Args:
        batch: gives the batch of a step.
        parameters: those that are trained; None for all.
    """
    trained = list(module.parameters() if parameters is None else parameters)
    optimizer = torch.optim.AdamW(trained, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    module.train()
    earlier = module
    for step in range(steps):
        if step == int(EARLIER * steps):
            earlier = copy.deepcopy(module)
        inputs, answers = batch(step)
        logits = output_tensor(module(**inputs), "") if answers.ndim == 2 else last_logits(module, inputs)
        loss = nn.functional.cross_entropy(logits.flatten(0, -2), answers.flatten())
        module.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
    for one in (module, earlier):
        one.zero_grad()
        one.eval()
    return Trained(module, earlier)


@torch.no_grad()
def accuracy(module: nn.Module, inputs: dict[str, Tensor], answers: Tensor) -> float:
    return float((last_logits(module, inputs).argmax(-1) == answers).float().mean())
