"""Reading safetensors files without trusting them.

Format: https://github.com/huggingface/safetensors#format. Everything that the header says is checked against the
file's real size before a byte of tensor data is touched.
"""

from __future__ import annotations

import mmap
import threading
import weakref
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from model_forensics.errors import BundleFormatError, InputRefused
from model_forensics.files._content import FileIdentity, reopened
from model_forensics.files._json import parse_json
from model_forensics.files._open_content import open_content, read_content
from model_forensics.files._safetensors_write import DTYPES, MAX_HEADER_BYTES, MAX_TENSORS
from model_forensics.files._sealed import Seal

MAX_DIMENSIONS: Final = 16
_CURE = "Record it again, or restore the file from an intact copy"
_ENTRY_KEYS = {"dtype", "shape", "data_offsets"}
_OTHER_BRACES: Final = 1024  # in a header's text that belong to no tensor: of its metadata


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor: safetensors dtype, shape, and where its bytes are in the file."""

    tag: str
    shape: tuple[int, ...]
    start: int
    stop: int


class SafeTensors:
    """A checked safetensors file. Thread-safe; holds no open file: data is mapped when an array is asked for.

    An array stays valid as long as it is referenced. The file must not be truncated meanwhile.
    """

    def __init__(
        self,
        path: Path,
        entries: dict[str, TensorEntry],
        metadata: dict[str, str],
        identity: FileIdentity,
        error: type[InputRefused],
    ) -> None:
        self.path = path
        self.metadata: Mapping[str, str] = metadata
        self._entries = entries
        self._identity = identity
        self._error = error
        self._lock = threading.Lock()
        self._map: weakref.ref[mmap.mmap] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Tensor names in the order of the header."""
        return tuple(self._entries)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def entry(self, name: str) -> TensorEntry:
        """Raises `InputRefused` (the class given to `open_safetensors`) where there is no such tensor."""
        try:
            return self._entries[name]
        except KeyError:
            raise self._error(f"tensor {name!r} is missing", where=self.path, cure=_CURE) from None

    def dtype(self, name: str) -> str:
        """Safetensors dtype, for example "F32" or "BF16"."""
        return self.entry(name).tag

    def shape(self, name: str) -> tuple[int, ...]:
        return self.entry(name).shape

    def array(self, name: str) -> npt.NDArray[Any]:
        """Read-only array over the memory map; BF16 comes as uint16 bit patterns.

        Raises:
            InputRefused: no such tensor, or the file was changed since it was opened.
        """
        entry = self.entry(name)
        dtype = DTYPES[entry.tag]
        if entry.start == entry.stop:
            empty = np.empty(entry.shape, dtype)
            empty.flags.writeable = False
            return empty
        count = (entry.stop - entry.start) // dtype.itemsize
        array: npt.NDArray[Any] = np.frombuffer(self._mapping(), dtype, count, entry.start)
        if entry.start % dtype.itemsize:  # legal in the format; compiled code wants aligned items
            array = array.copy()
            array.flags.writeable = False
        return array if len(entry.shape) == 1 else array.reshape(entry.shape)

    def rows(self, name: str, start: int, stop: int) -> npt.NDArray[Any]:
        """`array(name)[start:stop]`."""
        return self.array(name)[start:stop]

    def joined(self, parts: Sequence[tuple[str, int, int]]) -> npt.NDArray[Any]:
        """The items of `rows` of each part (name, start, stop), one after the other; a flat array of its own.

        Args:
            parts: at least one, of tensors of one dtype; 0 ≤ start ≤ stop ≤ rows.

        Raises:
            InputRefused: no such tensor, or the file was changed since it was opened.
        """
        content = np.frombuffer(self._mapping(), np.uint8)
        pieces = []
        for name, start, stop in parts:
            entry = self.entry(name)
            row = (entry.stop - entry.start) // max(1, entry.shape[0])
            pieces.append(content[entry.start + start * row : entry.start + stop * row])
        return np.concatenate(pieces).view(DTYPES[self.entry(parts[0][0]).tag])

    def release_memory(self) -> None:
        """Drop the mapped pages from this process's memory; arrays stay valid, and read them again where needed."""
        mapping = None if self._map is None else self._map()
        if mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
            mapping.madvise(mmap.MADV_DONTNEED)

    @property
    def kept_bytes(self) -> int:
        """Memory that is kept of all such files after `release_memory`."""
        return 0

    def _mapping(self) -> mmap.mmap:
        mapping = None if self._map is None else self._map()
        if mapping is None:
            with self._lock:
                mapping = None if self._map is None else self._map()
                if mapping is None:
                    mapping = self._open_mapping()
                    self._map = weakref.ref(mapping)
        _RECENT.keep(mapping)
        return mapping

    def _open_mapping(self) -> mmap.mmap:
        with reopened(self.path, self._identity, self._error) as descriptor:
            return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)


class _RecentMaps:
    """Keeps the most recently used maps alive.

    A Python map holds a file descriptor until it is closed, so keeping one per file would exhaust the descriptors of a
    process that reads thousands of bundles.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._maps: OrderedDict[int, mmap.mmap] = OrderedDict()
        self._newest: mmap.mmap | None = None
        self._lock = threading.Lock()

    def keep(self, mapping: mmap.mmap) -> None:
        if self._newest is mapping:  # of hundreds of sites in one file
            return
        with self._lock:
            self._newest = mapping
            self._maps[id(mapping)] = mapping
            self._maps.move_to_end(id(mapping))
            if len(self._maps) > self._limit:
                self._maps.popitem(last=False)


_RECENT = _RecentMaps(64)


def open_safetensors(
    path: Path | str,
    *,
    seal: Seal | None = None,
    error: type[InputRefused] = BundleFormatError,
    most: int = MAX_TENSORS,
) -> SafeTensors:
    """Open and check a safetensors file; no tensor data is read.

    Args:
        path: the file; a link is refused.
        seal: None for a file that is not encrypted.
        error: the class to raise.
        most: as for `parse_safetensors_header`.

    Raises:
        UnsafeFileError: a link or not a regular file.
        InputRefused: as `error`: missing, truncated, too large a header, an unknown dtype, negative or huge
            dimensions, tensors that overlap, leave gaps or do not fill the file exactly.
        EncryptionError: as `open_content`.
    """
    from model_forensics.files._sealed_tensors import SealedTensors  # noqa: PLC0415  (which imports this module)

    path = Path(path)
    content = open_content(path, seal, error=error)
    size = content.size
    length = int.from_bytes(read_content(content, 0, min(8, size)), "little")
    if size < 8 or length > size - 8:
        raise error(f"truncated: {size} bytes cannot hold the header", where=path, cure=_CURE)
    if not 2 <= length <= MAX_HEADER_BYTES:
        raise error(f"a header of {length:,} bytes is out of range", where=path, cure=_CURE)
    text = read_content(content, 8, 8 + length)
    metadata, entries = parse_safetensors_header(text, size=size, path=path, error=error, most=most)
    if seal is None:
        return SafeTensors(path, entries, metadata, content.identity, error)
    return SealedTensors(content, entries, metadata, error)


def parse_safetensors_header(
    text: bytes, *, size: int, path: Path, error: type[InputRefused], most: int = MAX_TENSORS
) -> tuple[dict[str, str], dict[str, TensorEntry]]:
    """Metadata and tensors of a header, checked for a file of `size` bytes, as by `open_safetensors`.

    Args:
        text: the header, without its size.
        most: opening braces that the tensors may have in the text: one each, and those of their names. A header with
            far more is refused at once, before it becomes many times larger objects.
    """
    if text[:1] != b"{":
        raise error("not a safetensors file: the header is no JSON object", where=path, cure=_CURE)
    braces = text.count(b"{")
    if braces > most + _OTHER_BRACES:
        raise error(f"{braces - 1:,} tensors or more, where at most {most:,} belong", where=path, cure=_CURE)
    header = parse_json(text, where=f"{path} (header)", error=error)
    return _check_header(header, data_start=8 + len(text), size=size, path=path, error=error)


def read_safetensors_header(
    path: Path | str, *, error: type[InputRefused] = BundleFormatError
) -> tuple[dict[str, str], dict[str, TensorEntry]]:
    """Metadata and tensors of a file, checked as by `open_safetensors`, in the header's order."""
    tensors = open_safetensors(path, error=error)
    return dict(tensors.metadata), {name: tensors.entry(name) for name in tensors.names}


def _check_header(
    header: dict[str, Any], *, data_start: int, size: int, path: Path, error: type[InputRefused]
) -> tuple[dict[str, str], dict[str, TensorEntry]]:
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise error("the header's __metadata__ must map text to text", where=path, cure=_CURE)
    if len(header) > MAX_TENSORS:
        raise error(f"{len(header):,} tensors; at most {MAX_TENSORS:,} are read", where=path, cure=_CURE)
    entries: dict[str, TensorEntry] = {}
    for name, value in header.items():
        entry = _check_entry(value, data_start)
        if isinstance(entry, str):
            raise error(f"tensor {name!r}: {entry}", where=path, cure=_CURE)
        entries[name] = entry
    position, previous = data_start, "the header"
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].stop)):
        if entry.start != position:
            problem = "overlap" if entry.start < position else "leave a gap"
            raise error(f"tensor {name!r} and {previous} {problem}", where=path, cure=_CURE)
        position, previous = entry.stop, f"tensor {name!r}"
    if position != size:
        problem = "truncated" if position > size else "bytes after the last tensor"
        raise error(f"{problem}: header describes {position:,} bytes, the file has {size:,}", where=path, cure=_CURE)
    return metadata, entries


def _check_entry(value: Any, data_start: int) -> TensorEntry | str:
    """The checked entry, or what is wrong with it."""
    if not isinstance(value, dict) or value.keys() != _ENTRY_KEYS:
        return "the header entry must have exactly dtype, shape and data_offsets"
    tag, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(tag, str) or tag not in DTYPES:
        return f"unknown dtype {tag!r:.40}"
    if not _are_sizes(shape) or len(shape) > MAX_DIMENSIONS:
        return f"the shape must be at most {MAX_DIMENSIONS} non-negative integers below 2^62"
    if not _are_sizes(offsets) or len(offsets) != 2:
        return "data_offsets must be two non-negative integers"
    nbytes = DTYPES[tag].itemsize
    for dimension in shape:
        nbytes *= dimension
    if offsets[1] - offsets[0] != nbytes:
        return f"{offsets[1] - offsets[0]} bytes of data for a shape that needs {nbytes}"
    return TensorEntry(tag, tuple(shape), data_start + offsets[0], data_start + offsets[1])


def _are_sizes(values: Any) -> bool:
    if not isinstance(values, list):
        return False
    for value in values:  # noqa: SIM110  (a generator takes longer than the checks, of thousands of short lists)
        if type(value) is not int or not 0 <= value < 1 << 62:  # not isinstance: JSON's true and false are no sizes
            return False
    return True
