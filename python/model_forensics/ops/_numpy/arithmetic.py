"""The range coder in plain integers: what docs/stream-format.md says, word for word."""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

import numpy as np
import numpy.typing as npt

from model_forensics.ops import _stream
from model_forensics.ops._arrays import Integers, Symbols
from model_forensics.ops._stream import BrokenStream
from model_forensics.ops._stream.models import CONTEXT, contexts, runs

__all__ = ["BrokenStream", "arithmetic_decode", "arithmetic_encode", "arithmetic_size", "crc32c"]

_WORD: Final = 0xFFFF
_LOW48: Final = (1 << 48) - 1
_RENORMALISE: Final = 1 << 32
_POLYNOMIAL: Final = 0x82F63B78  # 0x1EDC6F41 with its bits in reverse


def arithmetic_encode(data: Symbols, element: int, model: int) -> Symbols:
    """The stream of `data` as uint8."""
    return np.frombuffer(_stream.encode(_Coder(), data, element, model), dtype=np.uint8)


def arithmetic_size(stream: Symbols) -> int:
    """Bytes that the stream decodes to."""
    return _stream.size(_Coder(), stream)


def arithmetic_decode(stream: Symbols, out: Symbols) -> None:
    """Fill `out`, which has the decoded size."""
    _stream.decode(_Coder(), stream, out)


def _contribution(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (_POLYNOMIAL if byte & 1 else 0)
    return byte


_CONTRIBUTIONS: Final = [_contribution(byte) for byte in range(256)]


def crc32c(data: Symbols) -> int:
    """CRC-32C (Castagnoli; RFC 3720, appendix B.4): start and end inverted."""
    state = 0xFFFFFFFF
    for byte in data.tobytes():
        state = state >> 8 ^ _CONTRIBUTIONS[(state ^ byte) & 0xFF]
    return state ^ 0xFFFFFFFF


class _Coder:
    crc32c = staticmethod(crc32c)

    def encoder(self, lanes: int, symbols: int) -> _Encoder:
        return _Encoder(lanes)

    def decoder(self, words: npt.NDArray[np.uint16], sizes: list[int]) -> _Decoder:
        ends = np.cumsum(sizes)
        return _Decoder([words[end - size : end].tolist() for end, size in zip(ends, sizes, strict=True)])


class _Encoder:
    def __init__(self, lanes: int) -> None:
        self._lanes = [_EncoderLane() for _ in range(lanes)]

    def encode(self, symbols: Symbols, frequencies: Integers) -> None:
        starts, widths, bits = _slices(frequencies)
        for i, symbol in enumerate(symbols.tolist()):
            self._lanes[i % len(self._lanes)].encode(starts[symbol], widths[symbol], bits)

    def encode_conditional(self, symbols: Symbols, frequencies: Integers) -> None:
        tables = [_slices(row) for row in frequencies]
        before = contexts(symbols, len(self._lanes))
        for lane, run in zip(self._lanes, runs(symbols.size, len(self._lanes)), strict=True):
            for context, symbol in zip(before[run].tolist(), symbols[run].tolist(), strict=True):
                starts, widths, bits = tables[context]
                lane.encode(starts[symbol], widths[symbol], bits)

    def finish(self) -> list[npt.NDArray[np.uint16]]:
        return [np.array(lane.finish(), dtype=np.uint16) for lane in self._lanes]


class _Decoder:
    def __init__(self, words: list[list[int]]) -> None:
        self._lanes = [_DecoderLane(of_lane) for of_lane in words]

    def decode(self, symbols: Symbols, frequencies: Integers) -> None:
        starts, widths, bits = _slices(frequencies)
        for i in range(symbols.size):
            symbols[i] = self._lanes[i % len(self._lanes)].decode(starts, widths, bits)

    def decode_conditional(self, symbols: Symbols, frequencies: Integers) -> None:
        tables = [_slices(row) for row in frequencies]
        for lane, run in zip(self._lanes, runs(symbols.size, len(self._lanes)), strict=True):
            last = [0] * CONTEXT
            for i in range(run.start, run.stop):
                symbols[i] = lane.decode(*tables[sum(last) % 256])
                last = [*last[1:], int(symbols[i])]


def _slices(frequencies: Integers) -> tuple[list[int], list[int], int]:
    """Where each symbol lies in the total, [start, start + width), and log2 of the total."""
    ends = np.cumsum(frequencies)
    return (ends - frequencies).tolist(), frequencies.tolist(), int(ends[-1]).bit_length() - 1


class _EncoderLane:
    """An interval [low, low + range) of 48 bits; 2^32 <= range <= 2^48 between symbols."""

    def __init__(self) -> None:
        self._low = 0
        self._range = 1 << 48
        self._words: list[int] = []

    def encode(self, start: int, width: int, bits: int) -> None:
        share = self._range >> bits
        self._low += share * start
        self._range = share * width
        self._carry()
        while self._range < _RENORMALISE:
            self._words.append(self._low >> 32)
            self._low = self._low << 16 & _LOW48
            self._range <<= 16

    def finish(self) -> list[int]:
        """The multiple of 2^32 in [low, low + range) takes one word; words behind the last one read as zero."""
        self._low += _RENORMALISE - 1
        self._carry()
        self._words.append(self._low >> 32)
        while self._words and self._words[-1] == 0:
            self._words.pop()
        return self._words

    def _carry(self) -> None:
        """Low has passed 2^48: one more in the words before. The code is below 1, so that some word can take it."""
        if self._low <= _LOW48:
            return
        self._low &= _LOW48
        last = len(self._words) - 1
        while self._words[last] == _WORD:
            self._words[last] = 0
            last -= 1
        self._words[last] += 1


class _DecoderLane:
    """`value` is the code minus low, in units of low; below range in a sound stream."""

    def __init__(self, words: list[int]) -> None:
        self._words = iter(words)
        self._range = 1 << 48
        self._value = 0
        for _ in range(3):
            self._value = self._value << 16 | next(self._words, 0)

    def decode(self, starts: list[int], widths: list[int], bits: int) -> int:
        share = self._range >> bits
        position = min(self._value // share, (1 << bits) - 1)  # beyond it only in a damaged stream
        symbol = bisect_right(starts, position) - 1  # the last of equal starts is the one with a width
        self._value -= share * starts[symbol]
        self._range = share * widths[symbol]
        while self._range < _RENORMALISE:
            self._value = (self._value << 16 | next(self._words, 0)) & _LOW48
            self._range <<= 16
        return symbol
