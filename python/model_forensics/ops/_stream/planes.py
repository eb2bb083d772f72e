"""Byte planes of floating-point values: the sign moves to the lowest bit, and the highest byte is the exponent."""

from __future__ import annotations

import numpy as np

from model_forensics.ops._arrays import Symbols


def split(data: Symbols, width: int) -> Symbols:
    """[width, elements], the highest byte of the rotated elements first."""
    if width == 1:
        return data[None]
    words = data.view(f"<u{width}")
    rotated = (words << 1) | (words >> (8 * width - 1))
    planes: Symbols = np.ascontiguousarray(rotated.view(np.uint8).reshape(-1, width).T[::-1])
    return planes


def join(planes: Symbols) -> Symbols:
    """The bytes that `split` took apart."""
    width = planes.shape[0]
    if width == 1:
        single: Symbols = planes[0]
        return single
    words = np.ascontiguousarray(planes[::-1].T).view(f"<u{width}").reshape(-1)
    rotated = (words >> 1) | (words << (8 * width - 1))
    data: Symbols = rotated.view(np.uint8)
    return data
