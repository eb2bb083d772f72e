"""How far values of one side are from those of the other, over samples with the same input."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from model_forensics.types import Sparse

Read = Callable[[int], Mapping[str, npt.NDArray[Any] | Sparse]]
"""From the number of a sample to its arrays by name."""


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

    def size(self) -> str:
        """The left side: the root mean square of its values."""
        return f"rms {math.sqrt(self.squares / max(1, self.count)):.3g}"

    def departure(self) -> str:
        """The right side's distance, in words."""
        parts = [f"{self.differ} of {self.samples} samples differ"]
        if self.count:
            rms = math.sqrt(self.squared_difference / self.count)
            parts.append(f"rms {rms:.3g}, largest {self.largest:.3g}")
        if self.unlike:
            parts.append(f"{self.unlike} with other shapes, or NaN or Inf on one side")
        return "; ".join(parts)


def measure(names: Sequence[str], left: Read, right: Read, pairs: Sequence[tuple[int, int]]) -> dict[str, Measured]:
    """Every name that both samples of a pair hold, over all pairs; one pair is in memory at a time."""
    found = {name: Measured() for name in names}
    for ours, theirs in pairs:
        a, b = left(ours), right(theirs)
        for name in names:
            if name in a and name in b:
                _add(found[name], _dense(a[name]), _dense(b[name]))
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
