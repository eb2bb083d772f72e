"""Bad memory: one exponent bit of some rows of one map's weights is flipped."""

from __future__ import annotations

from bench.zoo.kind import Case, Kind, Planted
from model_forensics.demo.faults import flip_exponent_bits

BITS = 7
"""Of the exponent's eight: the highest one makes numbers of 1e30 and more, whose outputs are not finite."""


def plant(case: Case) -> Planted:
    part = case.some_part()
    maps = (*part.readers, part.writer)
    number = int(case.random.integers(len(maps)))
    weight = part.weight(maps[number])
    count = max(1, round(len(weight) * 2.0 ** case.random.uniform(-6, -2)))
    rows = sorted(case.random.choice(len(weight), size=count, replace=False).tolist())
    bit = int(case.random.integers(BITS))
    flip_exponent_bits(weight, rows, bit)
    return Planted(
        f"exponent bit {bit} flipped in {len(rows)} of {len(weight)} output rows of map {number} of {part.site}",
        (part.site,),
    )


KIND = Kind("flipped_bits", "weights", ("gpt2", "llama", "minilm", "digits"), plant)
