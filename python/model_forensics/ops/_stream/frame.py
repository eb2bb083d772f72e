"""The header, and the chunks that decode on their own."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np

from model_forensics.ops._arrays import Symbols
from model_forensics.ops._stream import planes, repeats
from model_forensics.ops._stream.coder import Coder
from model_forensics.ops._stream.reader import BrokenStream, Reader
from model_forensics.ops._stream.section import Model, decode_section, encode_section

MAGIC: Final = b"MFAC"
VERSION: Final = 1
HEADER: Final = struct.Struct("<4sBBBBQI")  # magic, version, element, model, flags, size, chunk; its CRC-32C follows
CHUNK_HEADER: Final = struct.Struct("<II")  # bytes that follow, CRC-32C of the decoded bytes
CHECKSUM: Final = struct.Struct("<I")
HEADER_SIZE: Final = HEADER.size + CHECKSUM.size
CHUNK: Final = 1 << 22  # decoded bytes of a chunk that the encoder makes
MOST_CHUNK: Final = 1 << 24  # that the decoder accepts
REPEATS: Final = 1  # flag: chunks begin with their repeats
WIDTHS: Final = (1, 4, 2, 2)  # bytes of an element: bytes, float32, float16, bfloat16


@dataclass(frozen=True)
class Header:
    """What a stream says of itself. `size` and `chunk` in decoded bytes."""

    element: int
    size: int
    chunk: int
    repeats: bool = False


def encode(coder: Coder, data: Symbols, element: int, model: int, chunk: int = CHUNK) -> bytes:
    """The stream of `data`; `chunk` is a multiple of the element's width."""
    header = write_header(coder.crc32c, Header(element, data.size, chunk, model == Model.CONDITIONAL), model)
    pieces = (data[first : first + chunk] for first in range(0, data.size, chunk))
    return header + b"".join(_encode_chunk(coder, piece, WIDTHS[element], model) for piece in pieces)


def size(coder: Coder, stream: Symbols) -> int:
    """Bytes that the stream says it decodes to, after its header and the sizes of its chunks were checked."""
    header = read_header(coder.crc32c, stream)
    _find_chunks(stream, header)
    return header.size


def decode(coder: Coder, stream: Symbols, out: Symbols) -> None:
    """Fill `out`, which has the decoded size; it may hold anything after BrokenStream."""
    header = read_header(coder.crc32c, stream)
    starts = _find_chunks(stream, header)
    for number, (start, stop) in enumerate(pairwise(starts)):
        piece = out[number * header.chunk : (number + 1) * header.chunk]
        _decode_chunk(coder, stream[start:stop], header, piece)


def _fields(layout: struct.Struct, stream: Symbols) -> tuple[Any, ...]:
    return layout.unpack(stream[: layout.size].tobytes())


def _encode_chunk(coder: Coder, data: Symbols, width: int, model: int) -> bytes:
    whole = data[: data.size // width * width]
    encode_whole = _encode_repeating if model == Model.CONDITIONAL else _encode_elements
    stored = encode_whole(coder, whole, width, model) + data[whole.size :].tobytes()
    return CHUNK_HEADER.pack(len(stored), coder.crc32c(data)) + stored


def _encode_elements(coder: Coder, data: Symbols, width: int, model: int) -> bytes:
    return b"".join(encode_section(coder, plane, model) for plane in planes.split(data, width))


def _encode_repeating(coder: Coder, data: Symbols, width: int, model: int) -> bytes:
    """The elements without those that stood before, where that is shorter."""
    whole = repeats.write([]) + _encode_elements(coder, data, width, model)
    found = repeats.find(data, width)
    if not found:
        return whole
    shorter = repeats.write(found) + _encode_elements(coder, repeats.without(data, width, found), width, model)
    return shorter if len(shorter) < len(whole) else whole


def _decode_chunk(coder: Coder, chunk: Symbols, header: Header, out: Symbols) -> None:
    _, checksum = _fields(CHUNK_HEADER, chunk)
    width = WIDTHS[header.element]
    reader = Reader(chunk[CHUNK_HEADER.size :])
    whole = out[: out.size // width * width]
    if header.repeats:
        found = repeats.read(reader, whole.size // width)
        left = np.empty(whole.size - width * sum(repeat.length for repeat in found), dtype=np.uint8)
        _decode_elements(coder, reader, width, left)
        repeats.restore(left, width, found, whole)
    else:
        _decode_elements(coder, reader, width, whole)
    rest = out[whole.size :]
    if reader.left.size != rest.size:
        raise BrokenStream("a chunk has another size than its sections")
    rest[...] = reader.left
    if coder.crc32c(out) != checksum:
        raise BrokenStream("the decoded bytes differ from their checksum")


def _decode_elements(coder: Coder, reader: Reader, width: int, out: Symbols) -> None:
    decoded = np.empty((width, out.size // width), dtype=np.uint8)
    for plane in decoded:
        decode_section(coder, reader, plane)
    out[...] = planes.join(decoded)


def write_header(crc32c: Callable[[Symbols], int], header: Header, model: int) -> bytes:
    """The first bytes of a stream."""
    fields = HEADER.pack(MAGIC, VERSION, header.element, model, REPEATS * header.repeats, header.size, header.chunk)
    return fields + CHECKSUM.pack(crc32c(np.frombuffer(fields, np.uint8)))


def read_header(crc32c: Callable[[Symbols], int], stream: Symbols) -> Header:
    """What the first bytes of a stream say; BrokenStream if they are not such."""
    if stream.size < HEADER_SIZE:
        raise BrokenStream("it is shorter than a header")
    magic, version, element, model, flags, decoded, chunk = _fields(HEADER, stream)
    if magic != MAGIC:
        raise BrokenStream("it does not begin with 'MFAC'")
    if version != VERSION:
        raise BrokenStream(f"its version is {version}, this release reads {VERSION}")
    if _fields(CHECKSUM, stream[HEADER.size :])[0] != crc32c(stream[: HEADER.size]):
        raise BrokenStream("its header is damaged")
    if model >= len(Model) or flags > REPEATS:
        raise BrokenStream("its header holds flags of another version")
    if element >= len(WIDTHS):
        raise BrokenStream("the header names an unknown element")
    if not 0 < chunk <= MOST_CHUNK or chunk % WIDTHS[element]:
        raise BrokenStream("its chunks have an impossible size")
    return Header(element, decoded, chunk, flags == REPEATS)


def check_room(stream_size: int, header: Header) -> None:
    """A stream of so many bytes can hold the chunks that its header speaks of, or BrokenStream."""
    room = (stream_size - HEADER_SIZE) // (CHUNK_HEADER.size + 1)
    if header.size > room * header.chunk:
        raise BrokenStream("it ends early")


def _find_chunks(stream: Symbols, header: Header) -> list[int]:
    """Where each chunk begins, and the end; the number of chunks is checked before any is visited."""
    check_room(stream.size, header)
    starts = [HEADER_SIZE]
    for _ in range(-(-header.size // header.chunk)):
        left = stream.size - starts[-1]
        if left < CHUNK_HEADER.size:
            raise BrokenStream("it ends early")
        stored, _ = _fields(CHUNK_HEADER, stream[starts[-1] :])
        if stored > left - CHUNK_HEADER.size:
            raise BrokenStream("it ends early")
        starts.append(starts[-1] + CHUNK_HEADER.size + stored)
    if starts[-1] != stream.size:
        raise BrokenStream("bytes follow its end")
    return starts
