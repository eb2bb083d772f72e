"""The parts of a network that faults are planted in, the same for all families."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from model_forensics.models import Model

Component = Literal["attn", "mlp"]
COMPONENTS: tuple[Component, ...] = ("attn", "mlp")

# Paths inside a block: what reads the residual stream, what writes to it, the norm before.
_PATHS: dict[str, dict[str, tuple[tuple[str, ...], str, str | None]]] = {
    "gpt2": {"attn": (("attn.c_attn",), "attn.c_proj", "ln_1"), "mlp": (("mlp.c_fc",), "mlp.c_proj", "ln_2")},
    "llama": {
        "attn": (("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), "self_attn.o_proj", "input_layernorm"),
        "mlp": (("mlp.gate_proj", "mlp.up_proj"), "mlp.down_proj", "post_attention_layernorm"),
    },
    "bert": {
        "attn": (
            ("attention.self.query", "attention.self.key", "attention.self.value"), "attention.output.dense", None
        ),
        "mlp": (("intermediate.dense",), "output.dense", None),
    },
    "vit": {
        "attn": (("attention.q_proj", "attention.k_proj", "attention.v_proj"), "attention.o_proj", "layernorm_before"),
        "mlp": (("mlp.fc1",), "mlp.fc2", "layernorm_after"),
    },
}  # fmt: skip
_STORED_TRANSPOSED = frozenset({"gpt2"})  # [inputs, outputs]


@dataclass(frozen=True)
class Part:
    """One attention or MLP.

    Attributes:
        site: its name, such as `L2.mlp`.
        readers: the maps that read the residual stream.
        writer: the map that writes to it.
        norm: what the readers read through; None where a norm follows instead (BERT).
    """

    site: str
    layer: int
    kind: Component
    block: nn.Module
    readers: tuple[nn.Module, ...]
    writer: nn.Module
    norm: nn.Module | None
    transposed: bool

    def weight(self, module: nn.Module) -> Tensor:
        """[outputs, inputs], a view: what is written to it in place is written to the module."""
        stored = module.weight
        assert isinstance(stored, Tensor)
        return stored.data.T if self.transposed else stored.data

    @property
    def maps(self) -> tuple[nn.Module, ...]:
        """All of them, the writer last."""
        return (*self.readers, self.writer)

    def weights(self) -> list[Tensor]:
        """Of all its maps, the writer last."""
        return [self.weight(module) for module in self.maps]


def family_of(module: nn.Module) -> str:
    return Model.wrap(module).sites.family


def part(module: nn.Module, layer: int, kind: Component) -> Part:
    sites = Model.wrap(module).sites
    readers, writer, norm = _PATHS[sites.family][kind]
    block = module.get_submodule(sites.get(f"L{layer}.resid").module)
    return Part(
        site=f"L{layer}.{kind}",
        layer=layer,
        kind=kind,
        block=block,
        readers=tuple(block.get_submodule(path) for path in readers),
        writer=block.get_submodule(writer),
        norm=None if norm is None else block.get_submodule(norm),
        transposed=sites.family in _STORED_TRANSPOSED,
    )


def layers_of(module: nn.Module) -> int:
    layers = Model.wrap(module).sites.layers
    assert layers is not None
    return layers


def heads_of(module: nn.Module) -> int:
    """Attention heads of a layer."""
    config: Any = next(one.config for one in module.modules() if hasattr(one, "config"))
    return int(config.num_attention_heads)


def value_rows(attention: Part, head: int, heads: int) -> Tensor:
    """[size, width] of the weights that make a head's values, a view."""
    stored = attention.weight(attention.readers[-1])
    if len(attention.readers) == 1:  # queries, keys and values in one map
        stored = stored.chunk(3)[2]
    return stored.chunk(heads)[head]


def written_columns(attention: Part, head: int, heads: int) -> Tensor:
    """[width, size] of the weights that write what a head found, a view."""
    return attention.weight(attention.writer).chunk(heads, dim=1)[head]


@torch.no_grad()
def copy_weights(target: nn.Module, source: nn.Module) -> None:
    for ours, theirs in zip(target.parameters(), source.parameters(), strict=True):
        ours.copy_(theirs)
