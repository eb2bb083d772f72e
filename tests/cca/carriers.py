"""A model of four modules in a row, one of which is damaged, where everything behind it passes the answer on."""

from __future__ import annotations

import copy

import numpy as np
import torch

from model_forensics.failure import Failure
from model_forensics.models import Model

CLASSES = 5


class Carrier(torch.nn.Module):
    """`first` computes the answer, `last` passes it on to the readout, and nothing gets around it."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("first", "noise", "last", "readout"):
            setattr(self, name, torch.nn.Linear(CLASSES, CLASSES, bias=False))
        with torch.no_grad():
            self.first.weight.copy_(torch.eye(CLASSES))
            self.noise.weight.copy_(0.01 * torch.eye(CLASSES).roll(2, 0))
            self.last.weight.copy_(torch.eye(CLASSES))
            self.readout.weight.copy_(2 * torch.eye(CLASSES))

    def forward(self, features):
        answer = self.first(features)
        return self.readout(self.last(answer + self.noise(features)))


def world(planting, damaged: str, classes=range(CLASSES)):
    """An incident in which one module answers with the next class, and the model that works."""
    intact = Carrier().eval()
    broken = copy.deepcopy(intact)
    with torch.no_grad():
        weight = getattr(broken, damaged).weight
        weight.copy_(weight.roll(1, 0))
        broken.noise.weight.mul_(1.5)  # computed with other bits, so that it is a candidate
    calls = [{"features": np.eye(CLASSES, dtype=np.float32)[list(classes) * 3]}]
    healthy = planting.record(intact, calls, name="ok")
    incident = planting.record(broken, calls, name="inc", failure=Failure.label())
    return Model.wrap(intact), Model.wrap(broken), planting.with_answers(incident, healthy), healthy
