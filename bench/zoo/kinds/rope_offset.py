"""A kernel with its own rotary positions: in one layer it turns the queries as if they were elsewhere than the keys."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bench.zoo.attention import attention_of, watch_positions
from bench.zoo.kind import Case, Kind, Planted
from bench.zoo.parts import layers_of

OFFSETS = (-3, -2, -1, 1, 2, 3)
SCALES = (0.25, 0.5, 2.0, 4.0)
BASES = (10.0, 1000.0, 10000.0, 500000.0)
"""What other models of the family have; the zoo's has 100."""


def plant(case: Case) -> Planted:
    layer = int(case.random.integers(layers_of(case.module)))
    offset, scale, base = 0, 1.0, _base(case.healthy)
    match int(case.random.integers(3)):
        case 0:
            offset = int(case.random.choice(OFFSETS))
            what = f"{offset:+d} positions off"
        case 1:
            scale = float(case.random.choice(SCALES))
            what = f"turned by {scale:g} times their positions"
        case _:
            base = float(case.random.choice(BASES))
            what = f"turned with theta {base:g}"
    software = {"layer": layer, "offset": offset, "scale": scale, "base": base}
    return Planted(f"queries of layer {layer} are {what}, keys are not", (f"L{layer}.attn",), software)


def install(module: nn.Module, layer: int, offset: int, scale: float, base: float) -> None:
    """Turns the queries by what the wrong positions and frequencies differ from those that they are turned by later."""
    attention: Any = attention_of(module, layer)
    positions = watch_positions(attention)
    size = int(attention.head_dim)
    right = _frequencies(_base(module), size)
    wrong = _frequencies(base, size)

    def after(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        at = positions()[..., None].to(torch.float32)
        angles = ((at + offset) * scale * wrong - at * right)[..., None, :]  # [1 or batch, tokens, 1, size / 2]
        first, second = output.reshape(*output.shape[:-1], -1, 2, size // 2).unbind(-2)
        cos, sin = angles.cos(), angles.sin()
        return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1).flatten(-2)

    attention.q_proj.register_forward_hook(after)


def _base(module: nn.Module) -> float:
    config: Any = module.config
    return float(config.rope_parameters["rope_theta"])


def _frequencies(base: float, size: int) -> Tensor:
    return 1.0 / base ** (torch.arange(0, size, 2, dtype=torch.float32) / size)


KIND = Kind("rope_offset", "software", ("llama",), plant, install)
