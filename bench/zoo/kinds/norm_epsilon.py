"""A misplaced exponent in a configuration: the norm before one attention or MLP has far too large an epsilon."""

from __future__ import annotations

from torch import nn

from bench.zoo.kind import Case, Kind, Planted
from bench.zoo.parts import Component, part

_NAMES = ("eps", "variance_epsilon")


def plant(case: Case) -> Planted:
    where = case.some_part()
    epsilon = float(10.0 ** int(case.random.integers(-2, 4)))
    return Planted(
        f"the norm before {where.site} has epsilon {epsilon:g}",
        (where.site,),
        {"layer": where.layer, "component": where.kind, "epsilon": epsilon},
    )


def install(module: nn.Module, layer: int, component: Component, epsilon: float) -> None:
    norm = part(module, layer, component).norm
    assert norm is not None, "what is planted in has a norm before"
    setattr(norm, next(name for name in _NAMES if hasattr(norm, name)), epsilon)


KIND = Kind("norm_epsilon", "software", ("gpt2", "llama", "digits"), plant, install)
