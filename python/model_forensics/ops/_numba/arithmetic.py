"""The range coder in numba: the arithmetic of `_numpy.arithmetic`, its lanes side by side in arrays."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from model_forensics.ops import _stream
from model_forensics.ops._arrays import Integers, Symbols
from model_forensics.ops._numba.compiled import compiled
from model_forensics.ops._stream import BrokenStream
from model_forensics.ops._stream.models import CONTEXT, STATIC_BITS, contexts

__all__ = ["BrokenStream", "arithmetic_decode", "arithmetic_encode", "arithmetic_size", "crc32c"]

_Words = npt.NDArray[np.uint16]

_LOW48: Final = (1 << 48) - 1
_RENORMALISE: Final = 1 << 32
_POLYNOMIAL: Final = 0x82F63B78
_BUCKET_BITS: Final = 10  # of a position; the search for a symbol begins at the first one of its bucket
_SLACK: Final = 3  # words of a lane: rounding of its share, the end, and the one that may be written behind it


def arithmetic_encode(data: Symbols, element: int, model: int) -> Symbols:
    """The stream of `data` as uint8."""
    return np.frombuffer(_stream.encode(_Coder(), data, element, model), dtype=np.uint8)


def arithmetic_size(stream: Symbols) -> int:
    """Bytes that the stream decodes to."""
    return _stream.size(_Coder(), stream)


def arithmetic_decode(stream: Symbols, out: Symbols) -> None:
    """Fill `out`, which has the decoded size."""
    _stream.decode(_Coder(), stream, out)


def crc32c(data: Symbols) -> int:
    """CRC-32C."""
    return int(_crc32c(data, _CONTRIBUTIONS))


class _Coder:
    crc32c = staticmethod(crc32c)

    def encoder(self, lanes: int, symbols: int) -> _Encoder:
        return _Encoder(lanes, symbols)

    def decoder(self, words: _Words, sizes: list[int]) -> _Decoder:
        return _Decoder(words, sizes)


class _Encoder:
    def __init__(self, lanes: int, symbols: int) -> None:
        self._low = np.zeros(lanes, dtype=np.int64)
        self._range = np.full(lanes, 1 << 48, dtype=np.int64)
        self._words = np.empty((lanes, 2 * (symbols // lanes + 1) + _SLACK), dtype=np.uint16)
        self._used = np.zeros(lanes, dtype=np.int64)

    def encode(self, symbols: Symbols, frequencies: Integers) -> None:
        ends, bits = _ends(frequencies)
        _encode(symbols, ends - frequencies, frequencies, bits, self._low, self._range, self._words, self._used)

    def encode_conditional(self, symbols: Symbols, frequencies: Integers) -> None:
        before = contexts(symbols, self._low.size)
        ends = np.cumsum(frequencies, axis=1)
        lanes = (self._low, self._range, self._words, self._used)
        _encode_conditional(symbols, before, ends - frequencies, frequencies, STATIC_BITS, *lanes)

    def finish(self) -> list[_Words]:
        _finish(self._low, self._words, self._used)
        return [words[:used] for words, used in zip(self._words, self._used, strict=True)]


class _Decoder:
    def __init__(self, words: _Words, sizes: list[int]) -> None:
        self._words = words
        self._stop = np.cumsum(np.array(sizes, dtype=np.int64))
        self._next = self._stop - np.array(sizes, dtype=np.int64)
        self._range = np.full(len(sizes), 1 << 48, dtype=np.int64)
        self._value = np.zeros(len(sizes), dtype=np.int64)
        _start(self._words, self._next, self._stop, self._value)

    def decode(self, symbols: Symbols, frequencies: Integers) -> None:
        ends, bits = _ends(frequencies)
        buckets = np.arange(1 << _BUCKET_BITS, dtype=np.int64) << (bits - _BUCKET_BITS)
        first = np.searchsorted(ends, buckets, side="right")
        lanes = (self._value, self._range, self._words, self._next, self._stop)
        _decode(symbols, ends, frequencies, first, bits, *lanes)

    def decode_conditional(self, symbols: Symbols, frequencies: Integers) -> None:
        ends = np.cumsum(frequencies, axis=1)
        lanes = (self._value, self._range, self._words, self._next, self._stop)
        _decode_conditional(symbols, ends, frequencies, STATIC_BITS, *lanes)


def _ends(frequencies: Integers) -> tuple[Integers, int]:
    ends = np.cumsum(frequencies)
    return ends, int(ends[-1]).bit_length() - 1


def _contributions() -> npt.NDArray[np.uint32]:
    table: npt.NDArray[np.uint32] = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ _POLYNOMIAL, table >> 1).astype(np.uint32)
    return table


_CONTRIBUTIONS: Final = _contributions()


@compiled
def _crc32c(data: Symbols, contributions: npt.NDArray[np.uint32]) -> int:
    state = np.uint32(0xFFFFFFFF)
    for byte in data:
        state = (state >> np.uint32(8)) ^ contributions[(state ^ byte) & np.uint32(0xFF)]
    return state ^ np.uint32(0xFFFFFFFF)  # type: ignore[return-value]  # an int for the caller


@compiled
def _carry(words: _Words, last: int) -> None:
    while words[last] == 0xFFFF:
        words[last] = 0
        last -= 1
    words[last] += 1


@compiled
def _encode_symbol(
    start: int, width: int, bits: int, lane: int, lows: Integers, ranges: Integers, words: _Words, used: Integers
) -> None:
    share = ranges[lane] >> bits
    low = lows[lane] + share * start
    size = share * width
    if low > _LOW48:
        low &= _LOW48
        _carry(words[lane], used[lane] - 1)
    while size < _RENORMALISE:
        words[lane, used[lane]] = low >> 32
        used[lane] += 1
        low = (low << 16) & _LOW48
        size <<= 16
    lows[lane] = low
    ranges[lane] = size


@compiled
def _encode(
    symbols: Symbols,
    starts: Integers,
    widths: Integers,
    bits: int,
    lows: Integers,
    ranges: Integers,
    words: _Words,
    used: Integers,
) -> None:
    lanes = lows.size
    for row in range(0, symbols.size, lanes):
        for lane in range(min(lanes, symbols.size - row)):
            symbol = symbols[row + lane]
            _encode_symbol(starts[symbol], widths[symbol], bits, lane, lows, ranges, words, used)


@compiled
def _encode_conditional(
    symbols: Symbols,
    before: Symbols,
    starts: Integers,
    widths: Integers,
    bits: int,
    lows: Integers,
    ranges: Integers,
    words: _Words,
    used: Integers,
) -> None:
    length = -(-symbols.size // lows.size)
    for i in range(symbols.size):
        start, width = starts[before[i], symbols[i]], widths[before[i], symbols[i]]
        _encode_symbol(start, width, bits, i // length, lows, ranges, words, used)


@compiled
def _finish(lows: Integers, words: _Words, used: Integers) -> None:
    for lane in range(lows.size):
        low = lows[lane] + _RENORMALISE - 1
        if low > _LOW48:
            low &= _LOW48
            _carry(words[lane], used[lane] - 1)
        words[lane, used[lane]] = low >> 32
        used[lane] += 1
        while used[lane] > 0 and words[lane, used[lane] - 1] == 0:
            used[lane] -= 1


@compiled
def _start(words: _Words, following: Integers, stop: Integers, values: Integers) -> None:
    for lane in range(values.size):
        for _ in range(3):
            values[lane] <<= 16
            if following[lane] < stop[lane]:
                values[lane] |= np.int64(words[following[lane]])
                following[lane] += 1


@compiled
def _position(bits: int, lane: int, values: Integers, ranges: Integers) -> int:
    return min(values[lane] // (ranges[lane] >> bits), (1 << bits) - 1)  # type: ignore[no-any-return]


@compiled
def _advance(
    start: int,
    width: int,
    bits: int,
    lane: int,
    values: Integers,
    ranges: Integers,
    words: _Words,
    following: Integers,
    stop: Integers,
) -> None:
    share = ranges[lane] >> bits
    value = values[lane] - share * start
    size = share * width
    while size < _RENORMALISE:
        value = (value << 16) & _LOW48
        size <<= 16
        if following[lane] < stop[lane]:
            value |= np.int64(words[following[lane]])
            following[lane] += 1
    values[lane] = value
    ranges[lane] = size


@compiled
def _decode(
    symbols: Symbols,
    ends: Integers,
    widths: Integers,
    first: Integers,
    bits: int,
    values: Integers,
    ranges: Integers,
    words: _Words,
    following: Integers,
    stop: Integers,
) -> None:
    lanes = values.size
    for row in range(0, symbols.size, lanes):
        for lane in range(min(lanes, symbols.size - row)):
            position = _position(bits, lane, values, ranges)
            symbol = first[position >> (bits - _BUCKET_BITS)]
            while ends[symbol] <= position:
                symbol += 1
            symbols[row + lane] = symbol
            start = ends[symbol] - widths[symbol]
            _advance(start, widths[symbol], bits, lane, values, ranges, words, following, stop)


@compiled
def _decode_conditional(
    symbols: Symbols,
    ends: Integers,
    widths: Integers,
    bits: int,
    values: Integers,
    ranges: Integers,
    words: _Words,
    following: Integers,
    stop: Integers,
) -> None:
    length = -(-symbols.size // values.size)
    for i in range(symbols.size):
        lane = i // length
        context = 0
        for j in range(max(i - CONTEXT, lane * length), i):
            context += symbols[j]
        table = context & 0xFF
        position = _position(bits, lane, values, ranges)
        symbol = np.searchsorted(ends[table], position, side="right")
        symbols[i] = symbol
        start = ends[table, symbol] - widths[table, symbol]
        _advance(start, widths[table, symbol], bits, lane, values, ranges, words, following, stop)
