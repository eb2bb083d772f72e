"""Damage in the weights of one component of a network; always taken back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from model_forensics.models import Model
from model_forensics.models.families import submodule

# Module paths inside a block: the map that enters the component, and the one that leaves it.
WEIGHTS = {
    "gpt2": {"attn": ("attn.c_attn", "attn.c_proj"), "mlp": ("mlp.c_fc", "mlp.c_proj")},
    "bert": {"attn": ("attention.self.value", "attention.output.dense"), "mlp": ("intermediate.dense", "output.dense")},
}
TRANSPOSED = ("gpt2",)  # families that store [inputs, outputs]


def _noise(weight: torch.Tensor, generator: torch.Generator) -> None:
    """Half a standard deviation."""
    weight += 0.5 * weight.std() * torch.randn(weight.shape, generator=generator)


def _zero_rows(weight: torch.Tensor, generator: torch.Generator) -> None:
    """A quarter of the inputs is not read."""
    weight[torch.randperm(len(weight), generator=generator)[: len(weight) // 4]] = 0


def _quantised(weight: torch.Tensor, _generator: torch.Generator) -> None:
    """Three bits with one scale: seven levels."""
    step = weight.abs().max() / 3
    weight.copy_((weight / step).round() * step)


def _scaled(weight: torch.Tensor, _generator: torch.Generator) -> None:
    """One and a half times too large."""
    weight *= 1.5


def _permuted(weight: torch.Tensor, generator: torch.Generator) -> None:
    """A tenth of the outputs goes round in a circle."""
    chosen = torch.randperm(weight.shape[1], generator=generator)[: max(2, weight.shape[1] // 10)]
    weight[:, chosen] = weight[:, chosen.roll(1)]


def _stuck(weight: torch.Tensor, generator: torch.Generator) -> None:
    """A twentieth of the outputs no longer depends on the input."""
    weight[:, torch.randperm(weight.shape[1], generator=generator)[: max(1, weight.shape[1] // 20)]] = 0


Damage = Callable[[torch.Tensor, torch.Generator], None]  # of [inputs, outputs], in place
DAMAGES: dict[str, Damage] = {
    "noise": _noise, "zero_rows": _zero_rows, "quantised": _quantised,
    "scaled": _scaled, "permuted": _permuted, "stuck": _stuck,
}  # fmt: skip


@contextmanager
def damaged(model: Model, layer: int, kind: str, place: int, damage: Damage) -> Iterator[None]:
    """The weights are changed while the context is open.

    Args:
        kind: `attn` or `mlp`; place: 0 the map that enters the component, 1 the one that leaves it.
    """
    block = submodule(model.module, model.sites.get(f"L{layer}.resid").module)
    owner = submodule(block, WEIGHTS[model.sites.family][kind][place]) if block is not None else None
    if owner is None or not isinstance(owner.weight, torch.Tensor):
        raise ValueError(f"no weight for L{layer}.{kind}")
    stored = owner.weight.data
    before = stored.clone()
    try:
        damage(stored if model.sites.family in TRANSPOSED else stored.T, torch.Generator().manual_seed(layer))
        yield
    finally:
        stored.copy_(before)
