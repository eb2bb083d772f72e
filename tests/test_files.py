"""The leaf that writes atomically and reads hostile files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from model_forensics.errors import (
    BaselineError,
    BundleFormatError,
    StorageError,
    UnsafeFileError,
    UsageError,
)
from model_forensics.files import (
    _exchange,
    atomic_directory,
    atomic_write,
    open_safetensors,
    read_json,
    read_safetensors_header,
    sha256_bytes,
    sha256_file,
    widen_bfloat16,
    write_safetensors,
)

DTYPES = ["?", "u1", "i1", "u2", "i2", "f2", "u4", "i4", "f4", "u8", "i8", "f8"]


def tensors() -> dict[str, np.ndarray[Any, Any]]:
    values = {f"t{dtype}": np.arange(6).reshape(2, 3).astype(dtype) for dtype in DTYPES}
    return {
        **values,
        "scalar": np.array(3.5),
        "empty": np.empty((0, 7), np.float32),
        "odd": np.arange(5, dtype=np.uint8),
        "big-endian": np.arange(4, dtype=">f4"),
        "strided": np.arange(12, dtype=np.float32).reshape(3, 4)[::-1, ::2],
        "name with / and ü\n": np.ones(1, np.int16),
    }


def test_safetensors_round_trip(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "a", tensors(), metadata={"b": "2", "a": "1"})
    opened = open_safetensors(tmp_path / "a")
    assert opened.metadata == {"a": "1", "b": "2"}
    assert set(opened.names) == set(tensors())
    for name, expected in tensors().items():
        assert opened.shape(name) == expected.shape
        np.testing.assert_array_equal(opened.array(name), expected)
        assert not opened.array(name).flags.writeable
        assert opened.array(name).flags.aligned


def test_safetensors_library_reads_it_and_order_does_not_matter(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "a", tensors())
    write_safetensors(tmp_path / "b", dict(reversed(tensors().items())))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    for name, value in safetensors.numpy.load_file(tmp_path / "a").items():
        np.testing.assert_array_equal(value, tensors()[name])


def test_reads_what_the_library_writes(tmp_path: Path) -> None:
    safetensors.numpy.save_file({"x": np.arange(3.0), "y": np.arange(3, dtype=np.uint8)}, tmp_path / "a", {"k": "v"})
    opened = open_safetensors(tmp_path / "a")
    np.testing.assert_array_equal(opened.array("x"), np.arange(3.0))
    assert read_safetensors_header(tmp_path / "a")[0] == {"k": "v"}


def test_bfloat16_is_exact(tmp_path: Path) -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    write_safetensors(tmp_path / "a", {"x": bits, "u": bits[:2]}, bfloat16=["x"])
    opened = open_safetensors(tmp_path / "a")
    assert opened.dtype("x") == "BF16"
    assert opened.dtype("u") == "U16"
    wide = widen_bfloat16(opened.array("x"))
    np.testing.assert_array_equal(wide.view(np.uint32) >> 16, bits)
    np.testing.assert_array_equal(wide.view(np.uint32) & 0xFFFF, 0)


@pytest.mark.parametrize(
    ("arrays", "bits"),
    [
        ({"x": np.array(["a"])}, ()),
        ({"x": np.array([1j])}, ()),
        ({"x": np.array([None])}, ()),
        ({"x": np.ones(1)}, ("x",)),
        ({"x": np.ones(1)}, ("y",)),
        ({"__metadata__": np.ones(1)}, ()),
    ],
)
def test_what_cannot_be_stored(tmp_path: Path, arrays: dict[str, Any], bits: tuple[str, ...]) -> None:
    with pytest.raises(UsageError):
        write_safetensors(tmp_path / "a", arrays, bfloat16=bits)
    assert list(tmp_path.iterdir()) == []


def entry(start: int, stop: int, shape: object = None, dtype: object = "U8") -> dict[str, object]:
    return {"dtype": dtype, "shape": [stop - start] if shape is None else shape, "data_offsets": [start, stop]}


HEADERS: dict[str, tuple[Any, int]] = {  # header, bytes of data
    "overlap": ({"a": entry(0, 4), "b": entry(2, 6)}, 6),
    "same place": ({"a": entry(0, 4), "b": entry(0, 4)}, 4),
    "gap": ({"a": entry(0, 4), "b": entry(5, 6)}, 6),
    "gap at the start": ({"a": entry(1, 4)}, 4),
    "truncated": ({"a": entry(0, 8)}, 4),
    "declared size that lies": ({"a": entry(0, 1 << 50)}, 4),
    "trailing bytes": ({"a": entry(0, 4)}, 9),
    "only trailing bytes": ({}, 9),
    "shape and size differ": ({"a": entry(0, 4, [5])}, 4),
    "product that wraps around": ({"a": entry(0, 0, [1 << 32, 1 << 32])}, 0),
    "negative": ({"a": entry(0, 4, [-2, -2])}, 4),
    "backwards": ({"a": entry(4, 0, [0])}, 4),
    "true": ({"a": entry(0, 1, [True])}, 1),
    "float": ({"a": entry(0, 4, [4.0])}, 4),
    "many dimensions": ({"a": entry(0, 1, [1] * 65)}, 1),
    "shape no list": ({"a": entry(0, 1, "1")}, 1),
    "unknown dtype": ({"a": entry(0, 4, [4], "F8")}, 4),
    "dtype no text": ({"a": entry(0, 4, [4], ["U8"])}, 4),
    "no entry": ({"a": 3}, 0),
    "missing key": ({"a": {"dtype": "U8", "shape": []}}, 1),
    "unknown key": ({"a": {**entry(0, 4), "x": 1}}, 4),
    "metadata no text": ({"__metadata__": {"a": 1}}, 0),
    "metadata no object": ({"__metadata__": []}, 0),
    "list": ([], 0),
}


@pytest.mark.parametrize("case", HEADERS)
def test_hostile_headers(tmp_path: Path, case: str) -> None:
    header, size = HEADERS[case]
    text = json.dumps(header).encode()
    (tmp_path / "a").write_bytes(len(text).to_bytes(8, "little") + text + bytes(size))
    with pytest.raises(BundleFormatError) as caught:
        open_safetensors(tmp_path / "a")
    assert str(tmp_path / "a") in str(caught.value)
    with pytest.raises(BaselineError):
        open_safetensors(tmp_path / "a", error=BaselineError)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"1234567",
        bytes(8),
        b"\xff" * 8 + b"{}",
        (100).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        (2).to_bytes(8, "little") + b"\xff\xff",
        (16).to_bytes(8, "little") + b'{"a":1,"a":1}   ',
        (1 << 40).to_bytes(8, "little") + b"{}",
    ],
)
def test_hostile_starts(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(BundleFormatError):
        open_safetensors(tmp_path / "a")


def test_header_with_too_many_tensors(tmp_path: Path) -> None:
    text = json.dumps({f"t{n}": entry(0, 0) for n in range(100_000)}).encode()
    (tmp_path / "a").write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(BundleFormatError, match="100,000 tensors"):
        open_safetensors(tmp_path / "a")


def test_unaligned_tensors_are_readable(tmp_path: Path) -> None:
    text = json.dumps({"a": entry(0, 1), "b": entry(1, 9, [1], "F64")}).encode()
    (tmp_path / "a").write_bytes(len(text).to_bytes(8, "little") + text + b"\1" + np.array(2.5).tobytes())
    opened = open_safetensors(tmp_path / "a")
    value = opened.array("b")
    assert value.flags.aligned
    assert not value.flags.writeable
    assert value[0] == 2.5
    assert opened.joined([("b", 0, 1), ("b", 0, 1)]).tolist() == [2.5, 2.5]


def test_rows_of_several_tensors_are_joined(tmp_path: Path) -> None:
    tensors = {"a": np.arange(6.0).reshape(3, 2), "b": np.arange(6.0, 8.0), "none": np.zeros((0, 4))}
    write_safetensors(tmp_path / "a", tensors)
    opened = open_safetensors(tmp_path / "a")
    assert opened.joined([("b", 1, 2), ("none", 0, 0), ("a", 1, 3), ("a", 0, 0)]).tolist() == [7, 2, 3, 4, 5]
    with pytest.raises(BundleFormatError, match="missing"):
        opened.joined([("a", 0, 1), ("c", 0, 1)])


def test_many_open_files(tmp_path: Path) -> None:
    """More files than maps are kept, read in turn; arrays of closed ones stay valid."""
    write_safetensors(tmp_path / "a", {"x": np.arange(3)})
    before = len(os.listdir("/proc/self/fd"))
    opened = [open_safetensors(tmp_path / "a") for _ in range(200)]
    first = opened[0].array("x")
    assert sum(int(file.array("x").sum()) for file in opened) == 600
    assert len(os.listdir("/proc/self/fd")) - before < 80
    np.testing.assert_array_equal(first, [0, 1, 2])


@pytest.mark.parametrize(
    "text", ["", "{", "NaN", "[1e999]", "-Infinity", '{"a":1,"a":2}', "[" * 10**5, '"\\ud800"', "1 2", "9" * 5000]
)
def test_json_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(BundleFormatError, match=r"a\.json"):
        read_json(tmp_path / "a.json")


def test_json_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": [1, 2.5, null, "\\ud83d\\ude00"]}')
    assert read_json(tmp_path / "a.json") == {"a": [1, 2.5, None, "😀"]}
    with pytest.raises(BundleFormatError, match="at most 10"):
        read_json(tmp_path / "a.json", max_bytes=10)
    with pytest.raises(BaselineError, match="missing"):
        read_json(tmp_path / "b.json", error=BaselineError)


def test_links_pipes_and_directories_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("1")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("link", "pipe", "folder", "nul\0"):
        for function in (read_json, open_safetensors, sha256_file):
            with pytest.raises(UnsafeFileError):
                function(tmp_path / name)


def test_digests(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    known = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_bytes(b"abc") == sha256_file(tmp_path / "a") == known


def test_atomic_directory(tmp_path: Path) -> None:
    target = tmp_path / "new" / "target"
    with atomic_directory(target) as temporary:
        assert temporary.parent == target.parent
        assert not target.exists()
        (temporary / "a").write_text("1")
    assert (target / "a").read_text() == "1"
    assert [path.name for path in target.parent.iterdir()] == ["target"]
    with pytest.raises(UsageError), atomic_directory(target):
        raise AssertionError("not reached")
    with pytest.raises(ZeroDivisionError), atomic_directory(target, overwrite=True) as temporary:
        raise ZeroDivisionError
    with atomic_directory(target, overwrite=True) as temporary:
        (temporary / "b").write_text("2")
    assert [path.name for path in target.iterdir()] == ["b"]
    assert [path.name for path in target.parent.iterdir()] == ["target"]


def test_atomic_directory_over_something_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    for name in ("file", "link"):
        with pytest.raises(UsageError), atomic_directory(tmp_path / name, overwrite=True):
            raise AssertionError("not reached")


def test_atomic_directory_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    with pytest.raises(UsageError), atomic_directory(tmp_path / "a") as temporary:  # noqa: PT012
        (temporary / "x").write_text("mine")
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "x").write_text("theirs")
    assert (tmp_path / "a" / "x").read_text() == "theirs"
    assert len(list(tmp_path.iterdir())) == 1


def test_old_content_stays_when_the_exchange_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_text("old")

    def failing(one: Path, other: Path) -> bool:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(_exchange, "exchanged", failing)
    with pytest.raises(StorageError), atomic_directory(tmp_path / "a", overwrite=True) as temporary:
        (temporary / "x").write_text("new")
    assert (tmp_path / "a" / "x").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_old_content_stays_when_the_rename_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_exchange, "exchanged", lambda one, other: False)  # a file system that cannot
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_text("old")
    rename, calls = os.rename, []

    def failing(source: Any, target: Any) -> None:
        calls.append(source)
        if len(calls) == 2:
            raise OSError(5, "Input/output error")
        rename(source, target)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(StorageError), atomic_directory(tmp_path / "a", overwrite=True) as temporary:
        (temporary / "x").write_text("new")
    assert (tmp_path / "a" / "x").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_atomic_write(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "a.txt"
    atomic_write(target, "ä")
    assert target.read_bytes() == "ä".encode()
    atomic_write(target, b"2")
    with pytest.raises(UsageError):
        atomic_write(target, b"3", overwrite=False)
    atomic_write(tmp_path / "deep" / "b", b"4", overwrite=False)
    assert target.read_bytes() == b"2"
    assert sorted(path.name for path in target.parent.iterdir()) == ["a.txt", "b"]
    with pytest.raises(UsageError):
        atomic_write(tmp_path, b"")
    with pytest.raises(StorageError, match=r"a\.txt.*free"):
        atomic_write(target / "below", b"")


def test_atomic_write_on_a_full_disk_keeps_the_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_text("old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"No space left on device.*Free some space") as caught:
        atomic_write(tmp_path / "a", "new")
    assert caught.value.exit_code == 3
    assert (tmp_path / "a").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1
