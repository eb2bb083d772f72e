"""Damage of the kinds that happen to real weights, planted on purpose in a copy of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

_EXPONENT_SHIFT = 23  # float32: mantissa bits below the exponent


def flip_exponent_bits(weight: torch.Tensor, rows: Sequence[int], bit: int) -> None:
    """Flips one bit of the float32 exponent in some rows, in place: what a bad memory cell does to a weight file.

    Args:
        weight: [rows, columns] float32.
        rows: which rows are hit.
        bit: exponent bit, 0 (factor 2) to 7.
    """
    if weight.dtype != torch.float32:
        raise TypeError(f"flip_exponent_bits needs float32 weights, got {weight.dtype}")
    with torch.no_grad():
        bits = weight[list(rows)].contiguous().view(torch.int32)
        weight[list(rows)] = (bits ^ (1 << (_EXPONENT_SHIFT + bit))).view(torch.float32)


def quantise(weight: torch.Tensor, bits: int) -> None:
    """Rounds to a symmetric grid with one scale for the whole tensor, in place: a careless low-bit conversion."""
    with torch.no_grad():
        largest = 2 ** (bits - 1) - 1
        scale = weight.abs().max() / largest
        weight.copy_(torch.clamp(torch.round(weight / scale), -largest, largest) * scale)


def misread(weight: torch.Tensor, factor: float) -> None:
    """Shifts the output channels by one and multiplies by `factor`, in place: a loader that is one block off.

    Args:
        weight: [inputs, outputs] float32, as GPT-2 stores its projections.
        factor: ratio of the scale that was read to the right one.
    """
    with torch.no_grad():
        weight.copy_(factor * weight.roll(1, dims=1))
