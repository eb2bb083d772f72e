"""Shapes of values, site by site."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from model_forensics.ops._arrays import Bits, Floats, Integers
from model_forensics.ops._numba.compiled import compiled


def value_shapes(
    values: Floats, starts: Integers, most: int, levels: Bits, counts: Integers, quantiles: Floats
) -> None:
    """Fills `counts` [sites, 5], in the order of the fields of `ValueShapes`, and `quantiles` [sites, levels]."""
    _value_shapes(values.view(np.uint32), starts, most, levels, counts, quantiles.view(np.uint32))


@compiled
def _value_shapes(
    bits: npt.NDArray[np.uint32],
    starts: Integers,
    most: int,
    levels: Bits,
    counts: Integers,
    quantiles: npt.NDArray[np.uint32],
) -> None:
    counts[...] = 0
    quantiles[...] = np.uint32(0x7FC00000)  # NaN
    for site in range(starts.size - 1):
        start, stop = starts[site], starts[site + 1]
        if start == stop:
            continue
        chosen = bits[start : stop : max(1, (stop - start + most - 1) // most)]
        keys = np.sort((chosen << np.uint32(1)) | (chosen >> np.uint32(31)))  # by magnitude, then by sign
        run = 0
        for i in range(keys.size):
            if i == 0 or keys[i] != keys[i - 1]:
                counts[site, 1] += 1
                run = 0
            run += 1
            counts[site, 2] = max(counts[site, 2], run)
            counts[site, 3] += keys[i] >> np.uint32(1) == keys[-1] >> np.uint32(1)
            counts[site, 4] += chosen[i] & np.uint32(0xFFFF) != 0
        counts[site, 0] = keys.size
        for k in range(levels.size):
            quantiles[site, k] = keys[int(np.floor(levels[k] * (keys.size - 1)))] >> np.uint32(1)
