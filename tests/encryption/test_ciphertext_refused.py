"""What is not as it was encrypted is refused by name, and gives no byte of content."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_forensics.errors import CiphertextError, EncryptionError, EncryptionKeyError
from model_forensics.files import Seal, create_file, open_content, read_content
from model_forensics.files import _sealed as sealed
from model_forensics.files._sealed import FIRST_ROOM, ROOM, SEGMENT

SECRET_TEXT = b"SECRET TEXT "
ROLE = "bundle/inputs.safetensors"


def write(path: Path, key, size: int, role: str = ROLE) -> Path:
    with create_file(path, Seal(key, role)) as out:
        out.write((SECRET_TEXT * (size // len(SECRET_TEXT) + 1))[:size])
    return path


def refused(path: Path, seal: Seal, error: type[EncryptionError], match: str) -> None:
    with pytest.raises(error, match=match) as caught:
        read_content(open_content(path, seal))
    assert type(caught.value) is error
    assert str(path) == caught.value.where
    assert "SECRET" not in str(caught.value)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("size", [0, 5, FIRST_ROOM, FIRST_ROOM + ROOM, FIRST_ROOM + 2 * ROOM + 9])
def test_wrong_key_and_wrong_place(tmp_path, key, other, size):
    path = write(tmp_path / "file", key, size)
    refused(path, Seal(other, ROLE), EncryptionKeyError, "another key")
    refused(path, Seal(key, "bundle/outputs.safetensors"), EncryptionKeyError, r"not as 'bundle/outputs\.safetensors'")


def test_the_wrong_key_gets_nothing_from_what_was_read_before(tmp_path, key, other):
    path = write(tmp_path / "file", key, FIRST_ROOM + 9)
    read_content(open_content(path, Seal(key, ROLE)))
    refused(path, Seal(other, ROLE), EncryptionKeyError, "another key")


@pytest.mark.parametrize("segments", [1, 2, 3, 5])
def test_truncated_at_every_border(tmp_path, key, segments):
    path = write(tmp_path / "file", key, FIRST_ROOM + segments * ROOM)
    os.truncate(path, segments * SEGMENT)
    refused(path, Seal(key, ROLE), CiphertextError, f"truncated: it ends with segment {segments - 1}")


@pytest.mark.parametrize(
    "stored", [0, 1, 39, 40, 55, SEGMENT + 1, SEGMENT + 16, 2 * SEGMENT + 16, 56, 1000, SEGMENT - 1, 2 * SEGMENT - 7]
)
def test_truncated_elsewhere(tmp_path, key, stored):
    path = write(tmp_path / "file", key, FIRST_ROOM + 2 * ROOM + 9)
    os.truncate(path, stored)
    with pytest.raises(EncryptionError, match=r"truncated|altered"):
        open_content(path, Seal(key, ROLE))


def test_continued_after_its_end(tmp_path, key):
    path = write(tmp_path / "file", key, FIRST_ROOM + ROOM)
    with open(path, "ab") as stream:
        stream.write(bytes(100))
    refused(path, Seal(key, ROLE), CiphertextError, "truncated or altered")
    path = write(tmp_path / "other", key, FIRST_ROOM + 2 * ROOM)
    data = path.read_bytes()
    path.write_bytes(data + data[SEGMENT:])  # the last segments twice
    refused(path, Seal(key, ROLE), CiphertextError, "reordered: segment 2 is in the place of segment 4")


@pytest.mark.parametrize(("one", "two"), [(1, 2), (2, 3), (1, 3), (0, 2)])
def test_reordered_segments(tmp_path, key, one, two):
    path = write(tmp_path / "file", key, FIRST_ROOM + 4 * ROOM)
    data = path.read_bytes()
    blocks = [data[start : start + SEGMENT] for start in range(0, len(data), SEGMENT)]
    blocks[one], blocks[two] = blocks[two], blocks[one]
    path.write_bytes(b"".join(blocks))
    if one:
        refused(path, Seal(key, ROLE), CiphertextError, f"reordered: segment {two} is in the place of segment {one}")
    else:  # the header is elsewhere too
        refused(path, Seal(key, ROLE), CiphertextError, "not an encrypted file")


def test_a_segment_of_another_file(tmp_path, key):
    one, two = (write(tmp_path / name, key, FIRST_ROOM + 2 * ROOM).read_bytes() for name in "ab")
    path = tmp_path / "a"
    path.write_bytes(one[:SEGMENT] + two[SEGMENT : 2 * SEGMENT] + one[2 * SEGMENT :])
    refused(path, Seal(key, ROLE), CiphertextError, "segment 1 of 0 to 2 is not what was encrypted")


def test_every_byte_of_a_small_file(tmp_path, key):
    data = write(tmp_path / "file", key, 20).read_bytes()
    path = tmp_path / "flipped"
    for place in range(len(data)):
        for bit in (0, 7):
            flipped = bytearray(data)
            flipped[place] ^= 1 << bit
            path.write_bytes(flipped)
            match = "first byte" if place == 0 else "or was altered"
            refused(path, Seal(key, ROLE), CiphertextError if place == 0 else EncryptionKeyError, match)


@given(place=st.integers(1, 3 * SEGMENT + 24), bit=st.integers(0, 7))
def test_any_bit_of_a_larger_file(tmp_path_factory, place, bit):
    from model_forensics.files import EncryptionKey
    from tests.encryption.conftest import SECRET

    key = EncryptionKey(SECRET)
    path = write(tmp_path_factory.mktemp("x") / "file", key, FIRST_ROOM + 2 * ROOM + 9)
    with open(path, "rb+") as stream:
        stream.seek(place)
        byte = stream.read(1)[0]
        stream.seek(place)
        stream.write(bytes([byte ^ 1 << bit]))
    with pytest.raises(EncryptionError, match=r"altered") as caught:
        read_content(open_content(path, Seal(key, ROLE)))
    assert "SECRET" not in str(caught.value)
    if place >= 40:  # the header is intact, so other segments open
        number = place // SEGMENT
        assert isinstance(caught.value, CiphertextError)
        assert f"segment {number} " in str(caught.value)


def test_only_what_is_asked_for_needs_to_be_intact(tmp_path, key):
    """An altered segment is refused when it is read; what was authenticated may be used."""
    path = write(tmp_path / "file", key, FIRST_ROOM + 3 * ROOM)
    with open(path, "rb+") as stream:
        stream.seek(SEGMENT + 100)
        stream.write(b"x")
    opened = open_content(path, Seal(key, ROLE))
    assert read_content(opened, 0, 12) == SECRET_TEXT
    with pytest.raises(CiphertextError, match="segment 1"):
        read_content(opened, FIRST_ROOM - 1, FIRST_ROOM + 1)


def test_changed_while_it_is_read(tmp_path, key):
    path = write(tmp_path / "file", key, FIRST_ROOM + 3 * ROOM)
    opened = open_content(path, Seal(key, ROLE))
    stamp = path.stat()
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns + 1))
    with pytest.raises(Exception, match="changed after it was checked"):
        read_content(opened, FIRST_ROOM, FIRST_ROOM + 1)


def test_a_large_sparse_file_costs_nothing(tmp_path, key, monkeypatch):
    """4 GiB that lie: nine segments are looked at, at most."""
    path = write(tmp_path / "file", key, 100)
    os.truncate(path, 4 << 30)
    looked: list[int] = []
    decrypt: Callable[..., bytes | None] = sealed.Cipher.decrypt
    monkeypatch.setattr(
        sealed.Cipher, "decrypt", lambda self, *args, **kw: looked.append(1) or decrypt(self, *args, **kw)
    )
    with pytest.raises(EncryptionError, match="altered"):
        open_content(path, Seal(key, ROLE))
    assert len(looked) < 10


def test_an_empty_last_segment_is_refused(tmp_path, key):
    """It would be a second form of the same content."""
    path = tmp_path / "file"
    header = sealed.new_header()
    cipher = sealed.Cipher(Seal(key, ROLE), header)
    first = cipher.encrypt(bytes(FIRST_ROOM), 0, last=False)
    path.write_bytes(header + first + cipher.encrypt(b"", 1, last=True))
    refused(path, Seal(key, ROLE), CiphertextError, "truncated")
