"""Damaged and hostile streams of the arithmetic coder are refused, by every backend in the same words."""

from __future__ import annotations

import itertools
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_forensics import ops
from model_forensics.errors import InputRefused, StreamError
from model_forensics.ops._numpy import arithmetic as reference
from model_forensics.ops._stream import frame
from model_forensics.ops._stream.reader import varint
from tests.ops.arithmetic_cases import MODELS, decoded, exponents, fixture_is_a_name


def small_streams() -> list[tuple[bytes, bytes]]:
    values = np.random.default_rng(9).standard_normal(90).astype(np.float16)
    cases = [(values.tobytes() + b"x", dtype, model) for dtype in ("bytes", "float16") for model in MODELS]
    cases += [(exponents(400).tobytes(), "bytes", model) for model in MODELS]
    return [(data, ops.arithmetic_encode(data, dtype=dtype, model=model)) for data, dtype, model in cases]  # type: ignore[arg-type]


@pytest.mark.parametrize("number", range(6))
def test_truncated_streams_are_refused(backend: str, number: int) -> None:
    _, stream = small_streams()[number]
    for size in range(len(stream)):
        with pytest.raises(StreamError, match="cannot be decoded"):
            ops.arithmetic_decode(stream[:size], backend=backend)
    with pytest.raises(StreamError, match="bytes follow its end"):
        ops.arithmetic_decode(stream + b"x", backend=backend)


@pytest.mark.parametrize("number", range(6))
def test_a_changed_byte_is_refused_or_changes_nothing(backend: str, number: int) -> None:
    data, stream = small_streams()[number]
    for position, change in itertools.product(range(len(stream)), (1, 0x80, 0xFF)):
        damaged = bytearray(stream)
        damaged[position] ^= change
        try:
            got = decoded(bytes(damaged), backend)
        except StreamError:
            continue
        assert got == data, position


@fixture_is_a_name
@given(number=st.integers(0, 5), changes=st.lists(st.tuples(st.integers(24, 500), st.integers(0, 255)), max_size=4))
def test_backends_refuse_the_same(number: int, changes: list[tuple[int, int]]) -> None:
    damaged = bytearray(small_streams()[number][1])
    for position, byte in changes:
        damaged[position % len(damaged)] = byte
    assert outcome(bytes(damaged), "numpy") == outcome(bytes(damaged), "numba") == outcome(bytes(damaged), "auto")


def outcome(stream: bytes, backend: str) -> bytes | str:
    try:
        return decoded(stream, backend)
    except StreamError as error:
        return str(error)


def stream_of(
    body: bytes,
    size: int,
    *,
    element: int = 0,
    model: int = 0,
    chunk: int = frame.CHUNK,
    flags: int = 0,
    version: int = 1,
) -> bytes:
    """A stream whose header is sound, with what follows as given."""
    header = frame.HEADER.pack(frame.MAGIC, frame.VERSION, element, model, flags, size, chunk)
    return header + struct.pack("<I", reference.crc32c(np.frombuffer(header, np.uint8))) + body


def chunk_of(sections: bytes, data: bytes) -> bytes:
    return struct.pack("<II", len(sections), reference.crc32c(np.frombuffer(data, np.uint8))) + sections


def table_of(*frequencies: tuple[int, int]) -> bytes:
    present = sum(1 << symbol for symbol, _ in frequencies).to_bytes(32, "little")
    return b"\x02" + present + b"".join(varint(frequency) for _, frequency in frequencies)


HOSTILE = [
    (b"", "shorter than a header"),
    (b"MFAD" + bytes(20), "does not begin with 'MFAC'"),
    (b"MFAC\x02" + bytes(19), "its version is 2"),
    (stream_of(b"", 1)[:-1] + b"?", "header is damaged"),
    (stream_of(b"", 0, model=3), "flags of another version"),
    (stream_of(b"", 0, flags=2), "flags of another version"),
    (stream_of(b"", 0, element=4), "unknown element"),
    (stream_of(b"", 0, chunk=0), "impossible size"),
    (stream_of(b"", 0, chunk=frame.MOST_CHUNK + 4), "impossible size"),
    (stream_of(b"", 0, chunk=6, element=1), "impossible size"),
    (stream_of(bytes(100), 1 << 60), "ends early"),
    (stream_of(bytes(100), (1 << 64) - 1, chunk=1), "ends early"),
    (stream_of(bytes(16), 2, chunk=1), "ends early"),
    (stream_of(b"\xff\xff\xff\xff" + bytes(30), 9), "ends early"),
    (stream_of(chunk_of(b"\x00abc", b"abc") + b"x", 3), "bytes follow its end"),
    (stream_of(chunk_of(b"\x00abcd", b"abc"), 3), "another size than its sections"),
    (stream_of(chunk_of(b"\x00ab", b"abc"), 3), "section ends early"),
    (stream_of(chunk_of(b"\x05abc", b"abc"), 3), "unknown kind"),
    (stream_of(chunk_of(b"\x01a", b"abc"), 3), "differ from their checksum"),
    (stream_of(chunk_of(table_of((97, 16383)) + bytes(9), b"aaa"), 3), "do not add up"),
    (stream_of(chunk_of(table_of((97, 16384), (98, 1)) + bytes(9), b"aaa"), 3), "do not add up"),
    (stream_of(chunk_of(table_of((97, 16384), (98, 0)) + bytes(9), b"aaa"), 3), "no frequency"),
    (stream_of(chunk_of(table_of((97, 16385)) + bytes(9), b"aaa"), 3), "number that is too large"),
    (stream_of(chunk_of(table_of((97, 1 << 36)) + bytes(9), b"aaa"), 3), "number that is too large"),
    (stream_of(chunk_of(table_of((97, 16384)) + b"\x06" + bytes(99), b"aaa"), 3), "too many lanes"),
    (stream_of(chunk_of(table_of((97, 16384)) + b"\x00" + varint(11), b"aaa"), 3), "number that is too large"),
    (stream_of(chunk_of(table_of((97, 16384)) + b"\x00\x0a", b"aaa"), 3), "section ends early"),
    (stream_of(chunk_of(b"\x03\x04" + bytes(99), b"aaa"), 3), "too many lanes"),
    (stream_of(chunk_of(b"\x03\x03" + bytes(7), b"aaa"), 3), "section ends early"),
]


@pytest.mark.parametrize(("stream", "says"), HOSTILE)
def test_hostile_streams_are_refused(backend: str, stream: bytes, says: str) -> None:
    with pytest.raises(StreamError, match=says) as caught:
        ops.arithmetic_decode(stream, backend=backend, limit=1 << 62)
    assert isinstance(caught.value, InputRefused)
    assert str(caught.value).startswith("arithmetic_decode: ")


def test_a_table_of_one_symbol_and_words_of_zero_need_no_bytes(backend: str) -> None:
    stream = stream_of(chunk_of(table_of((97, 16384)) + b"\x00\x00", b"aaa"), 3)
    assert decoded(stream, backend) == b"aaa"


@fixture_is_a_name
@given(body=st.binary(max_size=120), size=st.integers(0, 300), element=st.integers(0, 3))
def test_backends_say_the_same_of_any_bytes(body: bytes, size: int, element: int) -> None:
    stream = stream_of(struct.pack("<I", max(len(body) - 4, 0)) + body, size, element=element)
    assert outcome(stream, "numpy") == outcome(stream, "numba") == outcome(stream, "auto")
    assert outcome(body, "numpy") == outcome(body, "auto")
