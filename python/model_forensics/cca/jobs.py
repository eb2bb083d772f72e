"""One row to run and what is written into it; when two runs of one row count as equal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from model_forensics.errors import InterventionError
from model_forensics.models import Tap

Logits = npt.NDArray[np.float64]

TOLERANCE = {"float64": 5e-6, "float32": 5e-6, "float16": 8 * 2.0**-10, "bfloat16": 8 * 2.0**-7}
"""Largest |difference| ÷ largest |logit| at which a replay, perhaps on another machine, counts as the recorded run. The
arithmetic differs only in the order of sums; for 16-bit types that is a few units in the last place after every layer:
8 of them."""
UNITS = {torch.float16: 2.0**-10, torch.bfloat16: 2.0**-7}
"""One unit in the last place: what two results of such a type differ by if they differ at all."""


@dataclass(frozen=True)
class Replacement:
    """What one edit writes: values [rows, features] of the sample's real tokens, or [1, features] for every row.

    `positions` restricts it to some of the sample's own tokens (negative ones count from the end).
    """

    values: torch.Tensor
    positions: tuple[int, ...] | None = None


Edits = Mapping[Tap, Replacement]


@dataclass(frozen=True)
class Job:
    """One row to run: row `row` of call `call` with these edits."""

    call: int
    row: int
    edits: Edits


def tolerance(dtype: str | None) -> float:
    """The tolerance for a model of this dtype; unknown ones are held to float32's."""
    return TOLERANCE.get((dtype or "float32").removeprefix("torch."), TOLERANCE["float32"])


def own_tolerance(dtype: torch.dtype | None) -> float:
    """The difference up to which two runs of one row on one machine are equal without another look: 5e-6, or one unit
    of a 16-bit type. A larger one is held to what the model differs from itself by (`PlainRuns.allowed`)."""
    return TOLERANCE["float32"] if dtype is None else UNITS.get(dtype, TOLERANCE["float32"])


def relative_error(left: Logits, right: Logits) -> float:
    """Largest |left − right| ÷ largest |right|, over entries finite in both.

    Infinite where only one of them is finite.
    """
    finite = np.isfinite(left)
    if left.shape != right.shape or not np.array_equal(finite, np.isfinite(right)):
        return float("inf")
    if not finite.any():
        return 0.0
    error = float(np.abs(left[finite] - right[finite]).max())
    return error / max(float(np.abs(right[finite]).max()), float(np.finfo(np.float32).tiny))


def checked_positions(positions: Sequence[int], rows: int, where: str) -> list[int]:
    """Positions of a sample of `rows` tokens, counted from its first.

    Raises:
        InterventionError: one is outside.
    """
    outside = [p for p in positions if not -rows <= p < rows]
    if outside:
        raise InterventionError(
            f"positions {outside} are outside the sample's {rows} tokens", where=where, cure="Give positions it has"
        )
    return [p % rows for p in positions]
