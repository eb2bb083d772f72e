"""A truth table as a network: its gates are weights, its components are modules that can be patched."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from bench.planted.worlds import POOL, World
from model_forensics.bundle import MemoryRecording
from model_forensics.failure import Failure
from model_forensics.models import Model
from model_forensics.types import Sample

FEATURES = 4
WRONG, RIGHT = 0, 1


class Gates(nn.Module):
    """Components say whether they are healthy (1) or not (0); gates of rectified sums turn that into an answer.

    The readout is in buffers, because only modules with parameters are candidates: one that reads out everything would
    repair everything.
    """

    terms: Tensor  # [terms, components], 1 for a member
    guards: Tensor  # [guards, components], 1 for the spoiler and -1 for its partner
    credit: Tensor  # [components]

    def __init__(self, world: World, *, healthy: bool) -> None:
        super().__init__()
        self.parts = nn.ModuleList(nn.Linear(FEATURES, 2) for _ in range(POOL))
        generator = torch.Generator().manual_seed(2 * world.seed + healthy)
        with torch.no_grad():
            for part in self.parts:
                assert isinstance(part, nn.Linear)
                part.weight[0], part.bias[0] = 0.0, float(healthy)
                part.weight[1] = torch.randn(FEATURES, generator=generator)  # every component differs from the donor's
                part.bias[1] = torch.randn((), generator=generator)
        self.register_buffer("terms", _rows([dict.fromkeys(term, 1.0) for term in world.terms]))
        self.register_buffer("guards", _rows([{spoiler: 1.0, partner: -1.0} for spoiler, partner in world.guards]))
        self.register_buffer("credit", torch.tensor(world.credit))

    def forward(self, features: Tensor) -> Tensor:
        """[batch, 4] → [batch, 3]: wrong, right, and a class that depends on the input and never wins."""
        health = torch.stack([part(features)[:, 0] for part in self.parts], dim=-1)
        spoiled = torch.relu(health @ self.guards.T).sum(-1, keepdim=True)
        satisfied = torch.relu(health @ self.terms.T - (self.terms.sum(-1) - 1) - spoiled).sum(-1)
        works = 1 - torch.relu(1 - satisfied)
        right = works + torch.relu(health @ self.credit - 10 * works)
        other = torch.tanh(features.sum(-1)) - 2
        return torch.stack([torch.full_like(right, 0.5), right, other], dim=-1)


@dataclass(frozen=True)
class PlantedFault:
    """An incident in a world: the broken model, the healthy one, and samples that fail, two groups of one."""

    world: World
    broken: Model
    intact: Model
    incident: MemoryRecording


def plant(world: World) -> PlantedFault:
    """The incident, recorded without activations: the donor is the intact model."""
    broken = Model.wrap(Gates(world, healthy=False))
    features = np.random.default_rng([world.seed, 13]).normal(size=(2, FEATURES)).astype(np.float32)
    logits = broken.forward({"features": torch.from_numpy(features)}).numpy()
    incident = MemoryRecording(
        samples=[Sample(sample_id=f"s{i}", group=f"g{i}", call=0, row=i, tokens=1) for i in range(2)],
        sites={},
        activations={},
        calls=[{"features": features}],
        results=[{"logits": row[None]} for row in logits],
        bundle_id=f"gates-{world.seed}",
        failure=Failure.label(wrong=[WRONG], right=[RIGHT]),
        model=broken.reference,
    )
    return PlantedFault(world, broken, Model.wrap(Gates(world, healthy=True)), incident)


def _rows(rows: list[dict[int, float]]) -> Tensor:
    matrix = torch.zeros(len(rows), POOL)
    for row, entries in enumerate(rows):
        for column, value in entries.items():
            matrix[row, column] = value
    return matrix
