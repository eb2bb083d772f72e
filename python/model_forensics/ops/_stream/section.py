"""One plane of one chunk: bytes to a section of the stream and back."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from model_forensics.ops._arrays import Integers, Symbols
from model_forensics.ops._stream import models
from model_forensics.ops._stream.coder import Coder
from model_forensics.ops._stream.reader import BrokenStream, Reader, varint

MOST_LANES_LOG2: Final = 5
MOST_ADAPTIVE_LANES_LOG2: Final = 3
MOST_CONDITIONAL_LANES_LOG2: Final = 3


class Model(IntEnum):
    STATIC = 0
    ADAPTIVE = 1
    CONDITIONAL = 2


class Kind(IntEnum):
    RAW = 0
    CONSTANT = 1
    STATIC = 2
    ADAPTIVE = 3
    CONDITIONAL = 4


def encode_section(coder: Coder, symbols: Symbols, model: int) -> bytes:
    """The section; the symbols as they are where coding does not make them smaller."""
    raw = bytes([Kind.RAW]) + symbols.tobytes()
    if not symbols.size:
        return raw
    counts = models.count(symbols)
    if counts[symbols[0]] == symbols.size:
        return bytes([Kind.CONSTANT, symbols[0]])
    coded = _ENCODERS[Model(model)](coder, symbols, counts)
    return coded if len(coded) <= symbols.size else raw


def decode_section(coder: Coder, reader: Reader, symbols: Symbols) -> None:
    """Take one section from the reader and fill `symbols`."""
    kind = reader.byte()
    if kind == Kind.RAW:
        symbols[...] = reader.take(symbols.size)
    elif kind == Kind.CONSTANT:
        symbols[...] = reader.byte()
    elif kind == Kind.STATIC:
        frequencies = _take_table(reader)
        words, sizes = _take_lanes(reader, symbols.size, MOST_LANES_LOG2)
        coder.decoder(words, sizes).decode(symbols, frequencies)
    elif kind == Kind.ADAPTIVE:
        words, sizes = _take_lanes(reader, symbols.size, MOST_ADAPTIVE_LANES_LOG2)
        _decode_adaptive(coder, words, sizes, symbols)
    elif kind == Kind.CONDITIONAL:
        tables = _take_tables(reader)
        words, sizes = _take_lanes(reader, symbols.size, MOST_CONDITIONAL_LANES_LOG2)
        coder.decoder(words, sizes).decode_conditional(symbols, tables)
    else:
        raise BrokenStream("a section is of an unknown kind")


def _encode_static(coder: Coder, symbols: Symbols, counts: Integers) -> bytes:
    frequencies = models.static_frequencies(counts)
    lanes_log2 = models.lanes_log2(models.static_cost(counts, frequencies), MOST_LANES_LOG2)
    encoder = coder.encoder(1 << lanes_log2, symbols.size)
    encoder.encode(symbols, frequencies)
    head = bytes([Kind.STATIC]) + _table(frequencies) + bytes([lanes_log2])
    return head + _lanes(encoder.finish())


def _encode_adaptive(coder: Coder, symbols: Symbols, counts: Integers) -> bytes:
    cost = models.static_cost(counts, models.static_frequencies(counts))
    lanes_log2 = models.lanes_log2(cost, MOST_ADAPTIVE_LANES_LOG2)
    encoder = coder.encoder(1 << lanes_log2, symbols.size)
    seen = np.zeros(models.SYMBOLS, dtype=np.int64)
    for block in models.adaptive_blocks(symbols.size):
        encoder.encode(symbols[block], models.adaptive_frequencies(seen))
        seen += models.count(symbols[block])
    return bytes([Kind.ADAPTIVE, lanes_log2]) + _lanes(encoder.finish())


def _encode_conditional(coder: Coder, symbols: Symbols, counts: Integers) -> bytes:
    """One table for each context where that is estimated to be shorter, tables included; else one for all."""
    unconditional = models.static_cost(counts, models.static_frequencies(counts))
    lanes_log2 = models.lanes_log2(unconditional, MOST_CONDITIONAL_LANES_LOG2)
    pairs = models.count_pairs(symbols, 1 << lanes_log2)
    occurs = np.flatnonzero(pairs.any(axis=1))
    frequencies = models.certain()
    for context in occurs:
        frequencies[context] = models.static_frequencies(pairs[context])
    cost = sum(models.static_cost(pairs[context], frequencies[context]) for context in occurs)
    head = bytes([Kind.CONDITIONAL]) + _tables(frequencies, occurs)
    if cost + len(head) * 8 * 256 >= unconditional:
        return _encode_static(coder, symbols, counts)
    encoder = coder.encoder(1 << lanes_log2, symbols.size)
    encoder.encode_conditional(symbols, frequencies)
    return head + bytes([lanes_log2]) + _lanes(encoder.finish())


_ENCODERS: Final = {
    Model.STATIC: _encode_static,
    Model.ADAPTIVE: _encode_adaptive,
    Model.CONDITIONAL: _encode_conditional,
}


def _decode_adaptive(coder: Coder, words: npt.NDArray[np.uint16], sizes: list[int], symbols: Symbols) -> None:
    decoder = coder.decoder(words, sizes)
    seen = np.zeros(models.SYMBOLS, dtype=np.int64)
    for block in models.adaptive_blocks(symbols.size):
        decoder.decode(symbols[block], models.adaptive_frequencies(seen))
        seen += models.count(symbols[block])


def _table(frequencies: Integers) -> bytes:
    """32 bytes of which symbols occur, then the frequency of each that does."""
    present = np.packbits(frequencies > 0, bitorder="little").tobytes()
    return present + b"".join(varint(int(f)) for f in frequencies[frequencies > 0])


def _take_table(reader: Reader) -> Integers:
    frequencies = np.zeros(models.SYMBOLS, dtype=np.int64)
    present = np.unpackbits(reader.take(models.SYMBOLS // 8), bitorder="little")
    for symbol in np.flatnonzero(present):
        frequencies[symbol] = reader.varint(1 << models.STATIC_BITS)
        if frequencies[symbol] == 0:
            raise BrokenStream("a symbol has no frequency")
    if frequencies.sum() != 1 << models.STATIC_BITS:
        raise BrokenStream("frequencies do not add up")
    return frequencies


def _tables(frequencies: Integers, occurs: Integers) -> bytes:
    """For each context: it, the first and the last symbol behind it, the frequencies from one to the other."""
    parts = [bytes([occurs.size - 1])]
    for context in occurs.tolist():
        behind = np.flatnonzero(frequencies[context])
        first, last = int(behind[0]), int(behind[-1])
        parts.append(bytes([context, first, last]))
        parts.extend(varint(int(f)) for f in frequencies[context, first : last + 1])
    return b"".join(parts)


def _take_tables(reader: Reader) -> Integers:
    """[256, 256]; what has no table is followed by 0 for certain, which happens in damaged streams only."""
    frequencies = models.certain()
    before = -1
    for _ in range(reader.byte() + 1):
        context = reader.byte()
        if context <= before:
            raise BrokenStream("tables are out of order")
        before = context
        first, last = reader.byte(), reader.byte()
        table = [reader.varint(1 << models.STATIC_BITS) for _ in range(first, last + 1)]
        if sum(table) != 1 << models.STATIC_BITS:
            raise BrokenStream("frequencies do not add up")
        frequencies[context] = 0
        frequencies[context, first : last + 1] = table
    return frequencies


def _lanes(words: list[npt.NDArray[np.uint16]]) -> bytes:
    sizes = b"".join(varint(lane.size) for lane in words)
    return sizes + b"".join(lane.astype("<u2").tobytes() for lane in words)


def _take_lanes(reader: Reader, symbols: int, most_lanes_log2: int) -> tuple[npt.NDArray[np.uint16], list[int]]:
    """The words of all lanes, one lane after the other, and how many each has."""
    lanes_log2 = reader.byte()
    if lanes_log2 > most_lanes_log2:
        raise BrokenStream("too many lanes")
    sizes = [reader.varint(2 * symbols + 4) for _ in range(1 << lanes_log2)]
    words = np.frombuffer(reader.take(2 * sum(sizes)).tobytes(), dtype="<u2")
    return words.astype(np.uint16, copy=False), sizes
