"""A deployment that mixes two checkpoints: the shard with one layer is still the one of some training before."""

from __future__ import annotations

from bench.zoo.kind import Case, Kind, Planted
from bench.zoo.parts import COMPONENTS, copy_weights, layers_of, part


def plant(case: Case) -> Planted:
    layer = int(case.random.integers(layers_of(case.module)))
    copy_weights(part(case.module, layer, "attn").block, part(case.earlier, layer, "attn").block)
    return Planted(
        f"all weights of layer {layer} are those of an earlier checkpoint",
        tuple(f"L{layer}.{kind}" for kind in COMPONENTS),
    )


KIND = Kind("stale_shard", "weights", ("gpt2", "llama", "digits"), plant)
