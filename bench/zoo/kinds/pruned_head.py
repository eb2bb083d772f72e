"""Pruning that went too far: heads of one attention are cut, one of them needed."""

from __future__ import annotations

from bench.zoo.kind import Case, Kind, Planted
from bench.zoo.parts import heads_of, layers_of, part, value_rows, written_columns

MOST = 2
"""At most one head in so many is cut."""


def plant(case: Case) -> Planted:
    layer = int(case.random.integers(layers_of(case.module)))
    attention = part(case.module, layer, "attn")
    heads = heads_of(case.module)
    count = int(case.random.integers(1, 1 + max(1, heads // MOST)))
    cut = sorted(case.random.choice(heads, size=count, replace=False).tolist())
    for head in cut:
        value_rows(attention, head, heads).zero_()
        written_columns(attention, head, heads).zero_()
    return Planted(f"heads {', '.join(map(str, cut))} of {heads} of {attention.site} are zero", (attention.site,))


KIND = Kind("pruned_head", "weights", ("gpt2", "llama", "digits"), plant)
