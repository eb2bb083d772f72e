"""Frequencies of bytes by integer arithmetic only, so that every backend makes the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from model_forensics.ops._arrays import Integers, Symbols

SYMBOLS: Final = 256
STATIC_BITS: Final = 14
ADAPTIVE_BITS: Final = 20
CONTEXT: Final = 4  # symbols that say which table a conditional section uses
_FIRST_BLOCKS: Final = 1024


def count(symbols: Symbols) -> Integers:
    return np.bincount(symbols, minlength=SYMBOLS).astype(np.int64)


def static_frequencies(counts: Integers) -> Integers:
    """Shares of 2^14, at least 1 for a symbol that occurs: largest remainders, ties to the smaller symbol."""
    total = int(counts.sum())
    scaled = counts << STATIC_BITS
    occurs = counts > 0
    shares = np.where(occurs, np.maximum(scaled // total, 1), 0)
    remainders = np.where(occurs, scaled - shares * total, 0)  # negative for a symbol that was rounded up to 1
    left = (1 << STATIC_BITS) - int(shares.sum())
    for _ in range(left):
        best = int(np.argmax(remainders))
        shares[best] += 1
        remainders[best] -= total
    for _ in range(-left):
        shares[np.argmax(shares)] -= 1
    return shares


def adaptive_frequencies(counts: Integers) -> Integers:
    """Shares of 2^20 by Krichevsky and Trofimov (1981), (count + 1/2)/(n + 128), at least 1 each.

    What rounding leaves over goes to the most frequent symbol, the smallest of them.
    """
    shared = (1 << ADAPTIVE_BITS) - SYMBOLS
    shares = (2 * counts + 1) * shared // (2 * int(counts.sum()) + SYMBOLS)
    left = shared - int(shares.sum())
    shares += 1
    shares[np.argmax(counts)] += left
    return shares


def adaptive_blocks(symbols: int) -> Iterator[slice]:
    """The runs that share one model: of 16, after 1024 symbols of a 32nd of those before, in sixteens."""
    first = 0
    while first < symbols:
        size = 16 if first < _FIRST_BLOCKS else first // 32 // 16 * 16
        yield slice(first, min(first + size, symbols))
        first += size


def count_pairs(symbols: Symbols, lanes: int) -> Integers:
    """[context, symbol] counts."""
    pairs = contexts(symbols, lanes).astype(np.int64) * SYMBOLS + symbols
    return np.bincount(pairs, minlength=SYMBOLS * SYMBOLS).reshape(SYMBOLS, SYMBOLS).astype(np.int64)


def runs(symbols: int, lanes: int) -> list[slice]:
    """The neighbouring symbols that each lane of a conditional section holds."""
    length = -(-symbols // lanes)
    return [slice(min(lane * length, symbols), min((lane + 1) * length, symbols)) for lane in range(lanes)]


def contexts(symbols: Symbols, lanes: int) -> Symbols:
    """The sum of the four symbols before, modulo 256; what lies before a lane counts as 0."""
    result = np.zeros_like(symbols)
    for run in runs(symbols.size, lanes):
        for distance in range(1, CONTEXT + 1):
            result[run][distance:] += symbols[run][:-distance]
    return result


def certain() -> Integers:
    """[context, symbol] frequencies with which 0 follows everything, for certain."""
    frequencies = np.zeros((SYMBOLS, SYMBOLS), dtype=np.int64)
    frequencies[:, 0] = 1 << STATIC_BITS
    return frequencies


def static_cost(counts: Integers, frequencies: Integers) -> int:
    """What symbols cost under static frequencies, in 1/256 bits; a little more than the truth."""
    return sum(
        int(counts[s]) * ((STATIC_BITS << 8) - _log2_in_256ths(int(frequencies[s]))) for s in np.flatnonzero(counts)
    )


def lanes_log2(cost: int, most: int) -> int:
    """log2 of the number of lanes for symbols of this cost: 1 below 8 KiB, 2 below 16 KiB, and so on."""
    lanes = 0
    while lanes < most and cost >> (24 + lanes) > 0:  # 24 = log2(256 · 8 · 8192)
        lanes += 1
    return lanes


def _log2_in_256ths(value: int) -> int:
    """floor(256 · log2(value)) or one less, by squaring."""
    whole = value.bit_length() - 1
    mantissa = (value << 31) >> whole  # in [2^31, 2^32)
    result = whole
    for _ in range(8):
        mantissa = (mantissa * mantissa) >> 31
        result <<= 1
        if mantissa >> 32:
            mantissa >>= 1
            result += 1
    return result
