"""How far values of one side are from those of the other, over samples with the same input."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from model_forensics.types import Departure, Difference, Sparse

Read = Callable[[str, int], npt.NDArray[Any] | Sparse | None]
"""From a name and the number of a sample to its array; None where the sample has none."""


@dataclass
class Measured:
    """
    Attributes:
        samples: compared; `differ` of these hold other values, `unlike` another shape or NaN and Inf elsewhere.
        squares, count: sum of the left side's squares, over entries finite on both sides, and their number.
        squared_difference: sum over the same entries.
        largest: largest |right − left|.
    """

    samples: int = 0
    differ: int = 0
    unlike: int = 0
    squares: float = 0.0
    squared_difference: float = 0.0
    count: int = 0
    largest: float = 0.0

    def departure(self) -> Departure:
        """In numbers."""
        some = self.count > 0
        return Departure(
            samples=self.samples,
            differ=self.differ,
            unlike=self.unlike,
            rms=math.sqrt(self.squares / self.count) if some else None,
            rms_difference=math.sqrt(self.squared_difference / self.count) if some else None,
            largest_difference=self.largest if some else None,
        )


def difference(name: str, measured: Measured) -> Difference:
    """One row: the size of the left side's values, and how far the right side is from them."""
    found = measured.departure()
    parts = [f"{found.differ} of {found.samples} samples differ"]
    if found.rms_difference is not None:
        parts.append(f"rms {found.rms_difference:.3g}, largest {found.largest_difference:.3g}")
    if found.unlike:
        parts.append(f"{found.unlike} with other shapes, or NaN or Inf on one side")
    size = None if found.rms is None else f"rms {found.rms:.3g}"
    return Difference(key=name, left=size, right="; ".join(parts), departure=found)


def measure(names: Sequence[str], left: Read, right: Read, pairs: Sequence[tuple[int, int]]) -> dict[str, Measured]:
    """Every name that both samples of a pair hold, over all pairs; one array of each side is in memory at a time."""
    found = {name: Measured() for name in names}
    for name in names:  # one file after the other
        for ours, theirs in pairs:
            a, b = left(name, ours), right(name, theirs)
            if a is not None and b is not None:
                _add(found[name], _dense(a), _dense(b))
    return found


def _add(measured: Measured, left: npt.NDArray[Any], right: npt.NDArray[Any]) -> None:
    measured.samples += 1
    same = left.shape == right.shape and np.array_equal(left, right, equal_nan=left.dtype.kind == "f")
    measured.differ += not same
    if left.shape != right.shape:
        measured.unlike += 1
        return
    a, b = left.astype(np.float64), right.astype(np.float64)
    finite = np.isfinite(a) & np.isfinite(b)
    measured.unlike += not np.array_equal(np.isfinite(a), np.isfinite(b))
    difference = np.abs(b[finite] - a[finite])
    measured.count += difference.size
    measured.squares += float(np.square(a[finite]).sum())
    measured.squared_difference += float(np.square(difference).sum())
    measured.largest = max(measured.largest, float(difference.max(initial=0.0)))


def _dense(value: npt.NDArray[Any] | Sparse) -> npt.NDArray[Any]:
    """Absent entries of sparse recordings as NaN: they are unknown, not zero."""
    if not isinstance(value, Sparse):
        return np.asarray(value)
    full = np.full(value.shape, np.nan)
    full.reshape(-1)[value.indices] = value.values
    return full
