"""The format is Tink's, whatever the size; any part of a file reads like that part of the whole."""

from __future__ import annotations

import hashlib
from pathlib import Path
from unittest.mock import patch

import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_forensics.errors import BundleFormatError
from model_forensics.files import (
    EncryptionKey,
    Seal,
    content_size,
    create_file,
    open_content,
    pieces_of,
    read_content,
    sealed_size,
)
from model_forensics.files import _sealed as sealed
from tests.encryption.conftest import SECRET

FIRST, ROOM = sealed.FIRST_ROOM, sealed.ROOM
BORDERS = [0, FIRST, FIRST + ROOM, FIRST + 2 * ROOM]
SIZES = st.one_of(
    st.sampled_from(BORDERS).flatmap(lambda border: st.integers(max(0, border - 20), border + 20)),
    st.integers(0, 3 * ROOM),
)
ROLE = "bundle/activations/000.safetensors"
SEAL = Seal(EncryptionKey(SECRET), ROLE)


def content_of(size: int) -> bytes:
    return hashlib.shake_128(size.to_bytes(4, "big")).digest(size)


def write(path: Path, content: bytes, step: int = 1 << 18, seal: Seal = SEAL) -> Path:
    with create_file(path, seal) as out:
        for start in range(0, len(content), step):
            assert out.write(content[start : start + step]) == len(content[start : start + step])
    return path


@settings(max_examples=15)
@given(size=SIZES, step=st.sampled_from([1 << 12, 99_991, 1 << 20, 1 << 23]))
def test_tink_reads_what_is_written(tmp_path_factory, size, step):
    content = content_of(size)
    path = write(tmp_path_factory.mktemp("x") / "file", content, step)
    assert oracle.decrypt(SECRET, path.read_bytes(), ROLE.encode()) == content
    assert content_size(path.stat().st_size) == size
    assert sealed_size(size) == path.stat().st_size
    assert oracle.decrypt(SECRET, sealed.seal_bytes(content, SEAL), ROLE.encode()) == content


@settings(max_examples=15)
@given(size=SIZES)
def test_what_tink_writes_is_read(tmp_path_factory, size):
    content = content_of(size)
    path = tmp_path_factory.mktemp("x") / "file"
    path.write_bytes(oracle.encrypt(SECRET, content, ROLE.encode()))
    opened = open_content(path, SEAL)
    assert opened.size == size
    assert read_content(opened) == content
    assert b"".join(pieces_of(opened)) == content


@given(size=SIZES, data=st.data())
def test_any_part_is_that_part_of_the_whole(tmp_path_factory, size, data):
    content = content_of(size)
    opened = open_content(write(tmp_path_factory.mktemp("x") / "file", content), SEAL)
    for _ in range(4):
        start = data.draw(st.integers(0, size))
        stop = data.draw(st.integers(start, size))
        assert read_content(opened, start, stop) == content[start:stop]


def test_nothing_is_read_past_the_end(tmp_path):
    opened = open_content(write(tmp_path / "file", b"abc"), SEAL)
    with pytest.raises(BundleFormatError, match="ends before"):
        opened.fill(2, memoryview(bytearray(2)))


def test_the_bytes_are_pinned(tmp_path):
    """Three segments, with a given header: salt 00 … 1f, nonces begin with 20 … 26."""
    content = content_of(FIRST + ROOM + 5)
    with patch.object(sealed.secrets, "token_bytes", lambda count: bytes(range(count))):
        path = write(tmp_path / "file", content)
    stored = path.read_bytes()
    assert stored[:40] == bytes([40, *range(39)])
    assert stored[40:56].hex() == "9700c5e7cd106ed79067427fc323dc65"
    assert hashlib.sha256(stored).hexdigest() == "5b5c1d401d9aa22314c59492783419cf1ae334bd86a4bfc3ab21de757db7aad6"
    assert oracle.decrypt(SECRET, stored, ROLE.encode()) == content


def test_every_file_has_a_key_of_its_own(tmp_path):
    one, two = (write(tmp_path / name, b"the same").read_bytes() for name in "ab")
    assert one[1:40] != two[1:40]
    assert one[40:] != two[40:]


def test_a_file_is_never_held_in_memory(tmp_path):
    import tracemalloc

    piece = bytes(1 << 20)
    tracemalloc.start()
    try:
        with create_file(tmp_path / "file", SEAL) as out:
            for _ in range(48):
                out.write(piece)
        assert tracemalloc.get_traced_memory()[1] < 6 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("stored", [0, 1, 39, 40, 55, (1 << 20) + 1, (1 << 20) + 16, (2 << 20) + 16, (1 << 52) + 17])
def test_sizes_that_no_file_has(stored):
    assert content_size(stored) is None
