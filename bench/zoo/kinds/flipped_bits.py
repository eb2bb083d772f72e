"""Bad memory: one exponent bit of some rows of one map's weights is flipped."""

from __future__ import annotations

from bench.zoo.kind import Case, Kind, Planted
from model_forensics.demo.faults import flip_exponent_bits


def plant(case: Case) -> Planted:
    part = case.some_part()
    weight = part.weight(part.writer)
    rows = sorted(case.random.choice(len(weight), size=max(1, len(weight) // 6), replace=False).tolist())
    bit = int(case.random.integers(0, 3))
    flip_exponent_bits(weight, rows, bit)
    return Planted(
        f"exponent bit {bit} flipped in {len(rows)} of {len(weight)} output rows of {part.site}", (part.site,)
    )


KIND = Kind("flipped_bits", "weights", ("gpt2", "llama", "minilm", "digits"), plant)
