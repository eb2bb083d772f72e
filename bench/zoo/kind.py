"""What a kind of incident is: one file in `bench/zoo/kinds` that defines `KIND`. docs/zoo.md shows how to add one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from bench.zoo.network import Network, Prompt
from bench.zoo.parts import COMPONENTS, Part, layers_of, part
from model_forensics.failure import Failure

Family = Literal["weights", "software", "training", "input", "several", "healthy"]
NOT_FINITE = -1
Draw = Callable[[np.random.Generator, int], list[Prompt]]
Sets = Sequence[tuple[str, ...]]


class Unplantable(Exception):
    """No fault of a kind made enough prompts fail, or was what the kind is."""


@dataclass(frozen=True)
class Case:
    """What a kind is given to plant its fault in.

    Attributes:
        module: a copy of `healthy`, to be changed in place.
        earlier: what the network was some training before; the same architecture, other weights.
        random: everything random is drawn from it.
    """

    network: Network
    healthy: nn.Module
    module: nn.Module
    earlier: nn.Module
    random: np.random.Generator

    def some_part(self) -> Part:
        """Of the copy: any attention or MLP."""
        layer = int(self.random.integers(layers_of(self.module)))
        return part(self.module, layer, COMPONENTS[int(self.random.integers(len(COMPONENTS)))])

    def some_parts(self) -> tuple[Part, ...]:
        """Of the copy: an attention, an MLP, or both of one layer, as one trains or replaces them."""
        one = self.some_part()
        whole = tuple(part(self.module, one.layer, component) for component in COMPONENTS)
        return whole if self.random.random() < 1 / 3 else (one,)

    def generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(int(self.random.integers(2**31)))


@dataclass(frozen=True)
class Planted:
    """What was done.

    Attributes:
        how: in words, with the numbers that matter.
        sites: the components that were damaged, in order of execution; none where nothing is wrong inside.
        software: arguments for the kind's `install`: damage that weights do not hold.
        prompts: what the incident is drawn from, where that is not what the network is asked otherwise.
        benign: what the healthy recordings are drawn from, likewise.
        before: what the release before was asked in place of a prompt of the incident; None for the same.
    """

    how: str
    sites: tuple[str, ...] = ()
    software: Mapping[str, Any] | None = None
    prompts: Draw | None = None
    benign: Draw | None = None
    before: Callable[[Prompt], Prompt] | None = None


def goes_wrong(prompt: Prompt, answer: int, healthy_answer: int) -> bool:
    """The usual failure: the damaged network is wrong where the healthy one is right."""
    return answer not in (prompt.right, NOT_FINITE) and healthy_answer == prompt.right


@dataclass(frozen=True)
class Kind:
    """One kind of incident.

    Attributes:
        name: as the file's.
        networks: those that it is planted in, in turn.
        plant: damages `case.module` in place and says what it did. Called again, with other random numbers, where too
            few prompts then fail. Raises `Unplantable` where it cannot.
        install: puts software damage into a module that was loaded; JSON values in.
        fails: whether a prompt becomes part of the incident: (prompt, the damaged network's answer, the healthy
            one's), -1 where an output is not finite.
        failure: what the incident calls a failure, where that is not the network's.
        is_one: whether a fault is what the kind says, by (damaged sites, minimal fix sets of the incident's prompts):
            for kinds that promise something about the sets. Where it is not, another is planted, a few times.
    """

    name: str
    family: Family
    networks: tuple[str, ...]
    plant: Callable[[Case], Planted]
    install: Callable[..., None] | None = None
    fails: Callable[[Prompt, int, int], bool] = field(default=goes_wrong)
    failure: Failure | None = None
    is_one: Callable[[tuple[str, ...], Sets], bool] = field(default=lambda sites, minimal: True)
