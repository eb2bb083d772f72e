"""Byte planes of floating-point values: the sign moves to the lowest bit, so that the highest byte is the exponent's."""

from __future__ import annotations

import numpy as np

from model_forensics.ops._arrays import Symbols


def split(data: Symbols, width: int) -> Symbols:
    """[width, elements], the highest byte of the rotated elements first."""
    if width == 1:
        return data[None]
    words = data.view(f"<u{width}")
    rotated = (words << 1) | (words >> (8 * width - 1))
    return np.ascontiguousarray(rotated.view(np.uint8).reshape(-1, width).T[::-1])


def join(planes: Symbols) -> Symbols:
    """The bytes that `split` took apart."""
    width = planes.shape[0]
    if width == 1:
        return planes[0]
    words = np.ascontiguousarray(planes[::-1].T).view(f"<u{width}").reshape(-1)
    rotated = (words >> 1) | (words << (8 * width - 1))
    return rotated.view(np.uint8)
