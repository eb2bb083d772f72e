"""Grids and counts, site by site."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from model_forensics.ops import _tables
from model_forensics.ops._arrays import BLOCK, Bits, Floats, Integers, Symbols

UNIFORM, LOG, SIGN, EXPONENT = range(4)
SYMBOLS = -1


@dataclass(frozen=True)
class Part:
    """Some tokens of one site.

    Attributes:
        symbols: [tokens, channels] uint8.
        site: number of the site.
        tokens: where they are among the tokens of all sites.
        row: the first token's number within the site.
        channels: where they are among the channels of all sites.
    """

    symbols: Symbols
    site: int
    tokens: slice
    row: int
    channels: slice


def parts(
    data: Symbols | Floats, shapes: Integers, scale: int, levels: int, low: Floats, step: Floats
) -> Iterator[Part]:
    """The symbols of all sites, so many tokens at a time that temporary memory stays small."""
    value = channel = token = 0
    for site, (tokens, channels) in enumerate(shapes.tolist()):
        rows = data[value : value + tokens * channels].reshape(tokens, channels)
        of_site = slice(channel, channel + channels)
        at_once = max(1, BLOCK // max(1, channels))
        for first in range(0, tokens, at_once):
            part = rows[first : first + at_once]
            if scale == SYMBOLS:
                symbols = cast("Symbols", part)
            else:
                symbols = symbols_of(cast("Floats", part), scale, levels, low[of_site], step[of_site])
            yield Part(symbols, site, slice(token + first, token + first + len(part)), first, of_site)
        value += tokens * channels
        channel += channels
        token += tokens


def refuse_outside(data: Symbols | Floats, scale: int, alphabet: int) -> None:
    if scale == SYMBOLS and data.size and int(data.max()) >= alphabet:
        raise ValueError("a symbol is outside the alphabet")


def quantize(
    values: Floats, shapes: Integers, scale: int, levels: int, low: Floats, step: Floats, out: Symbols
) -> None:
    """Symbols of all values."""
    done = 0
    for part in parts(values, shapes, scale, levels, low, step):
        out[done : done + part.symbols.size] = part.symbols.ravel()
        done += part.symbols.size


def histogram(
    data: Symbols | Floats,
    shapes: Integers,
    scale: int,
    levels: int,
    low: Floats,
    step: Floats,
    alphabet: int,
    out: Integers,
) -> None:
    """Counts of every channel; `out` is [channels, alphabet]."""
    refuse_outside(data, scale, alphabet)
    out[...] = 0
    for part in parts(data, shapes, scale, levels, low, step):
        channels = part.symbols.shape[1]
        labels = part.symbols + np.arange(channels, dtype=np.int64) * alphabet
        counts = np.bincount(labels.ravel(), minlength=channels * alphabet)
        out[part.channels] += counts.reshape(channels, alphabet)


def symbols_of(values: Floats, scale: int, levels: int, low: Floats, step: Floats) -> Symbols:
    """uint8 symbols of [tokens, channels] values."""
    if scale == SIGN:
        return (values.view(np.uint32) >> 31).astype(np.uint8)
    if scale == EXPONENT:
        return ((values.view(np.uint32) >> 23) & 0xFF).astype(np.uint8)
    finite = np.isfinite(values)
    if scale == UNIFORM:
        x = np.where(finite, values, np.float32(0)).astype(np.float64)
        return np.where(finite, _level(x, low, step, levels), levels).astype(np.uint8)
    usable = finite & (values != 0)
    x = _tables.log2(np.where(usable, np.abs(values), np.float32(1)).astype(np.float64))
    symbols = np.where(usable, _level(x, low, step, levels), 0)
    return np.where(finite, symbols, levels).astype(np.uint8)


def _level(x: Bits, low: Floats, step: Floats, levels: int) -> npt.NDArray[np.float64]:
    position = np.floor((x - low.astype(np.float64)) / step.astype(np.float64))
    return np.clip(position, 0, levels - 1)
