"""Tensor files coded with the arithmetic coder: the codec `arithmetic`. Specified in docs/bundle-format.md.

The content is a safetensors file. Its tensors are grouped by dtype, so that the coder can treat exponents, signs and
mantissas each by itself, and a group is coded in sections of 1 MiB, so that a reader decodes only what it needs and
takes no more memory for it than the section's size, whatever the stored bytes say.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from model_forensics.bundle.schema import CURE
from model_forensics.bundle.sections import CODER_DTYPES, SECTION, Arrangement, Bytes, Group, Part, differences, sums
from model_forensics.errors import BundleFormatError, StreamError
from model_forensics.files import (
    DTYPES,
    MAX_HEADER_BYTES,
    MAX_TENSORS,
    Content,
    Seal,
    Sink,
    TensorEntry,
    open_content,
    open_safetensors,
    parse_safetensors_header,
    read_content,
)

MAGIC: Final = b"MFTENSR1"
CACHED_SECTIONS: Final = 256
FEW_SECTIONS: Final = 32  # that stay where memory is short

_HEAD: Final = 16  # magic and number of sections
_INDEX_ITEM: Final = 8
_MOST_OVERHEAD: Final = 1 << 16  # of a stored section over twice its content; more is not read


def encode_file(plain: Path, out: Sink, *, seal: Seal | None = None) -> None:
    """Write the coded form of a safetensors file, a section at a time.

    Args:
        plain: the safetensors file.
        out: what it is written to.
        seal: what the safetensors file is encrypted with.
    """
    from model_forensics import ops  # noqa: PLC0415 - it loads compilers, which plain bundles do without

    tensors = open_safetensors(plain, seal=seal)
    content = open_content(plain, seal)
    entries = {name: tensors.entry(name) for name in tensors.names}
    arrangement = Arrangement(entries)
    header = read_content(content, 0, 8 + int.from_bytes(read_content(content, 0, 8), "little"))
    out.write(MAGIC + bytes(_HEAD - len(MAGIC) + _INDEX_ITEM * arrangement.sections))
    sizes = [out.write(ops.arithmetic_encode(header, model="conditional", dtype="bytes"))]
    for group in arrangement.groups:
        dtype = CODER_DTYPES.get(group.tag, "bytes")
        for section in range(group.sections):
            parts = [_bytes_of(content, entries[part.name].start, part) for part in group.parts(section)]
            data = differences(np.concatenate(parts), group.tag).tobytes()
            sizes.append(out.write(ops.arithmetic_encode(data, model="conditional", dtype=dtype)))
    out.rewrite(MAGIC + np.array([len(sizes), *sizes], "<u8").tobytes())


def _bytes_of(content: Content, begin: int, part: Part) -> Bytes:
    return np.frombuffer(read_content(content, begin + part.start, begin + part.stop), np.uint8)


class CodedTensors:
    """A checked, coded safetensors file, with the interface of `SafeTensors`. Thread-safe; holds no open file."""

    def __init__(self, content: Content, header: bytes, entries: dict[str, TensorEntry], ends: list[int]) -> None:
        self.path = content.path
        self._content = content
        self._header = header
        self._entries = entries
        self._ends = ends  # where section n begins and ends in the file: ends[n], ends[n + 1]
        self._arrangement = Arrangement(entries)

    @property
    def names(self) -> tuple[str, ...]:
        """Tensor names in the order of the header."""
        return tuple(self._entries)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def entry(self, name: str) -> TensorEntry:
        """Raises BundleFormatError where there is no such tensor."""
        if name not in self._entries:
            raise BundleFormatError(f"tensor {name!r} is missing", where=self.path, cure=CURE)
        return self._entries[name]

    def dtype(self, name: str) -> str:
        """Safetensors dtype, for example "F32" or "BF16"."""
        return self.entry(name).tag

    def shape(self, name: str) -> tuple[int, ...]:
        return self.entry(name).shape

    def array(self, name: str) -> npt.NDArray[Any]:
        """Read-only array, decoded; BF16 comes as uint16 bit patterns.

        Raises:
            BundleFormatError: no such tensor, stored bytes that cannot be decoded, a file that was changed since it was
                opened, or more content than there is memory.
        """
        entry = self.entry(name)
        return self._decoded(name, 0, entry.stop - entry.start).reshape(entry.shape)

    def rows(self, name: str, start: int, stop: int) -> npt.NDArray[Any]:
        """`array(name)[start:stop]` for 0 ≤ start ≤ stop ≤ rows, without decoding the rest."""
        return self._decoded(name, *self._bounds(name, start, stop)).reshape(stop - start, *self.shape(name)[1:])

    def joined(self, parts: Sequence[tuple[str, int, int]]) -> npt.NDArray[Any]:
        """The items of `rows` of each part, one after the other; a flat array of its own. All are of one dtype."""
        bounds = [self._bounds(*part) for part in parts]
        content = self._room(sum(stop - start for start, stop in bounds), parts[0][0])
        filled = 0
        for (name, _, _), (start, stop) in zip(parts, bounds, strict=True):
            self._fill(content[filled : filled + stop - start], name, start)
            filled += stop - start
        return content.view(DTYPES[self.entry(parts[0][0]).tag])

    def content_digest(self) -> str:
        """Digest of the decoded content, a section at a time."""
        digest = hashlib.sha256(self._header)
        for name in sorted(self._entries, key=lambda name: (self._entries[name].start, self._entries[name].stop)):
            size = self._entries[name].stop - self._entries[name].start
            for start in range(0, size, SECTION):
                digest.update(self._decoded(name, start, min(size, start + SECTION)).tobytes())
                self.release_memory()
        return "sha256:" + digest.hexdigest()

    def release_memory(self) -> None:
        """Keep few decoded sections only, of all files, and few decrypted segments."""
        _RECENT.shrink(FEW_SECTIONS)
        self._content.release_memory()

    @property
    def kept_bytes(self) -> int:
        """Memory that is kept of all such files after `release_memory`."""
        return FEW_SECTIONS * SECTION + self._content.kept_bytes

    def _decoded(self, name: str, start: int, stop: int) -> npt.NDArray[Any]:
        """Bytes [start, stop) of a tensor, as a flat read-only array of its items."""
        content = self._room(stop - start, name)
        self._fill(content, name, start)
        content.flags.writeable = False
        return content.view(DTYPES[self.entry(name).tag])

    def _room(self, size: int, name: str) -> Bytes:
        try:
            return np.empty(size, np.uint8)
        except MemoryError as problem:
            what = f"{size:,} bytes of tensor {name!r}, more than there is memory"
            raise BundleFormatError(what, where=self.path, cure=CURE) from problem

    def _bounds(self, name: str, start: int, stop: int) -> tuple[int, int]:
        """Where rows [start, stop) of a tensor are in it, in bytes."""
        entry = self.entry(name)
        row = (entry.stop - entry.start) // max(1, entry.shape[0])
        return start * row, stop * row

    def _fill(self, target: Bytes, name: str, start: int) -> None:
        """The tensor's bytes from `start` on, until the target is full."""
        filled = 0
        while filled < target.size:
            group, own = self._arrangement.places[name]
            section, inside = divmod(own + start + filled, SECTION)
            piece = self._section(group, section)[inside : inside + target.size - filled]
            target[filled : filled + piece.size] = piece
            filled += piece.size

    def _section(self, group: Group, section: int) -> Bytes:
        number = group.first + section
        key = (self._content.fingerprint, number)
        cached = _RECENT.get(key)
        if cached is None:
            length = group.length(section)
            cached = _decode(self._content, self._ends, number, length)
            if cached.size != length:
                raise _refusal(f"section {number} has {cached.size:,} bytes instead of {length:,}", self.path)
            cached = sums(cached, group.tag)
            _RECENT.keep(key, cached)
        return cached


class _RecentSections:
    """The most recently used sections, decoded: consecutive samples of a site share them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._sections: OrderedDict[Any, Bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Any) -> Bytes | None:
        with self._lock:
            if key in self._sections:
                self._sections.move_to_end(key)
            return self._sections.get(key)

    def keep(self, key: Any, section: Bytes) -> None:
        with self._lock:
            self._sections[key] = section
            if len(self._sections) > self._limit:
                self._sections.popitem(last=False)

    def shrink(self, limit: int) -> None:
        with self._lock:
            while len(self._sections) > limit:
                self._sections.popitem(last=False)


_RECENT = _RecentSections(CACHED_SECTIONS)


def open_coded(path: Path, content_bytes: int, seal: Seal | None = None, *, most: int = MAX_TENSORS) -> CodedTensors:
    """Open and check a coded safetensors file; no tensor data is decoded.

    Args:
        path: the stored file; a link is refused.
        content_bytes: size of the decoded content, from the manifest.
        seal: what the file is encrypted with.
        most: as for `files.parse_safetensors_header`.

    Raises:
        UnsafeFileError: a link or not a regular file.
        BundleFormatError: missing, truncated, an index or header that does not fit, or what `open_safetensors` refuses.
        EncryptionError: as `files.open_content`.
    """
    content = open_content(path, seal)
    ends = _section_ends(content, content_bytes)
    header = _decode(content, ends, 0, min(content_bytes, 8 + MAX_HEADER_BYTES)).tobytes()
    if len(header) < 8 or int.from_bytes(header[:8], "little") != len(header) - 8:
        raise _refusal("the first section is no safetensors header", path)
    _, entries = parse_safetensors_header(header[8:], size=content_bytes, path=path, error=BundleFormatError, most=most)
    sections = Arrangement(entries).sections
    if len(ends) - 1 != sections:
        raise _refusal(f"{len(ends) - 1:,} sections where the header needs {sections:,}", path)
    return CodedTensors(content, header, entries, ends)


def _section_ends(content: Content, content_bytes: int) -> list[int]:
    """Where the sections begin, and the last one ends; checked against the file's size and the content's."""
    size, path = content.size, content.path
    head = read_content(content, 0, min(_HEAD, size))
    if len(head) < _HEAD or not head.startswith(MAGIC):
        raise _refusal("not a coded tensor file", path)
    count = int.from_bytes(head[len(MAGIC) :], "little")
    if not 1 <= count <= content_bytes // SECTION + len(DTYPES) + 1 or _HEAD + count * _INDEX_ITEM > size:
        raise _refusal(f"an index of {count:,} sections is out of range", path)
    index = np.frombuffer(read_content(content, _HEAD, _HEAD + count * _INDEX_ITEM), "<u8")
    ends = [_HEAD + count * _INDEX_ITEM]
    for stored in index.tolist():
        ends.append(ends[-1] + stored)
    if ends[-1] != size:
        raise _refusal(f"the index describes {ends[-1]:,} bytes, the file has {size:,}", path)
    return ends


def _decode(content: Content, ends: list[int], number: int, limit: int) -> Bytes:
    """The content of a section, of at most `limit` bytes."""
    from model_forensics import ops  # noqa: PLC0415

    start, stop = ends[number : number + 2]
    if stop - start > 2 * limit + _MOST_OVERHEAD:
        raise _refusal(f"section {number} takes {stop - start:,} bytes for at most {limit:,} of content", content.path)
    try:
        return ops.arithmetic_decode(read_content(content, start, stop), limit=limit)
    except StreamError as problem:
        raise _refusal(f"section {number} cannot be decoded: {problem.what}", content.path) from problem


def _refusal(what: str, path: Path) -> BundleFormatError:
    return BundleFormatError(what, where=path, cure=CURE)
