"""Rewriting one bundle with the codec `arithmetic`: without loss, proven before the original goes."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from model_forensics.bundle.coded import encode_file
from model_forensics.bundle.reader import Bundle, load_bundle, read_manifest, read_whole
from model_forensics.bundle.schema import ACTIVATIONS, MANIFEST, Manifest
from model_forensics.bundle.workplace import Workplace
from model_forensics.errors import BundleDigestError, StorageError
from model_forensics.files import (
    Sink,
    Storage,
    create_file,
    dump_json,
    keep_metadata,
    open_regular,
    parse_json,
    pieces_of,
    replace_directory,
    sealed_size,
    storage_errors,
    sync_tree,
)
from model_forensics.processes import uninterrupted

Create = Callable[[str], AbstractContextManager[Sink]] | None
Outcome = Literal["compressed", "would_compress", "already_compressed", "too_young", "kept_plain", "refused"]

_SPARE_BYTES = 1 << 20  # of free space, for directories and what else is written meanwhile


@dataclass(frozen=True)
class Compression:
    """What became of one bundle.

    Attributes:
        path: the bundle's directory.
        outcome: `kept_plain`: its coded form takes no fewer bytes; `refused`: see `reason`.
        before: bytes of all files on disk before; None where the bundle was not opened or is broken.
        after: bytes on disk afterwards, or for `would_compress` then; None like `before`.
        reason: why it was refused, in words.
        content_digest: of what it holds, which compression does not change; None where it was not opened.
    """

    path: str
    outcome: Outcome
    before: int | None = None
    after: int | None = None
    reason: str | None = None
    content_digest: str | None = None


def compress_bundle(path: Path, workplace: Workplace | None, *, recorded_before: datetime) -> Compression:
    """Rewrite one bundle, if it is old enough, plain, and smaller when coded.

    The coded bundle is written beside the original, synced, read back from disk digest by digest, and only then takes
    the original's name. Permissions, owner and times stay. At every moment a whole bundle has the name; where names
    cannot be exchanged, it lies in the workplace for a moment (`files.replace_directory`).

    Args:
        path: the bundle.
        workplace: of the directory that it lies in, entered; None to change nothing and say what would be done, which
            takes as long, because only coding tells what a bundle takes when it is coded.
        recorded_before: younger ones are left as they are.

    Raises:
        BundleError: it is broken, or was changed meanwhile.
        StorageError: writing failed, or there is too little space; the original is as it was.
    """
    manifest, _ = read_manifest(path)
    if manifest.created_at > recorded_before:
        return Compression(str(path), "too_young")
    if manifest.codec != "none":
        return Compression(str(path), "already_compressed")
    seen = _state(path)
    original = load_bundle(path)
    before = original.bytes
    if workplace is None:
        after = _code(original, before, create=None)
        outcome: Outcome = "kept_plain" if after is None else "would_compress"
        return Compression(str(path), outcome, before, after or before, content_digest=original.content_digest)
    _check_space(path, before)
    with workplace.place_for(path) as (new, aside):
        after = _write_coded(original, new, before)
        if after is None:
            return Compression(str(path), "kept_plain", before, before, content_digest=original.content_digest)
        _verify(original, new)
        if _state(path) != seen:
            raise _changed(path)
        with uninterrupted():  # until it is sure what was displaced
            displaced = replace_directory(new, path, aside)
            if _state(displaced) != seen:  # between the last look and the exchange
                replace_directory(displaced, path, aside)
                raise _changed(path)
    return Compression(str(path), "compressed", before, after, content_digest=original.content_digest)


def _write_coded(original: Bundle, new: Path, limit: int) -> int | None:
    """Write the coded bundle and sync it; its bytes on disk, or None as soon as they are no fewer than `limit`."""
    old = Storage.of(original.path, "bundle", MANIFEST)
    target = Storage(new, "bundle", old.key)
    with storage_errors(original.path):
        new.mkdir(mode=0o700)
        (new / ACTIVATIONS).mkdir()
        written = _code(original, limit, lambda name: create_file(target.path(name), target.seal(name)))
        if written is None:
            return None
        for name, made in _names(original.manifest):
            keep_metadata(old.path(name), target.path(made))
        for folder in (ACTIVATIONS, "."):
            keep_metadata(original.path / folder, new / folder)
        sync_tree(new)
    return written


def _code(original: Bundle, limit: int, create: Create) -> int | None:
    """Code a bundle into files that `create` makes, or without it into none; the bytes that it takes on disk, or None
    as soon as they are no fewer than `limit`."""
    old = Storage.of(original.path, "bundle", MANIFEST)
    total = 0
    for name, made in _names(original.manifest):
        with nullcontext() if create is None else create(made) as sink:
            out = _Counted(sink)
            if name == MANIFEST:
                stored = parse_json(read_whole(old, MANIFEST), where=str(old.path(MANIFEST)))
                out.write(dump_json({**stored, "codec": "arithmetic"}))
            elif made != name:
                encode_file(old.path(name), out, seal=old.seal(name))
            else:
                for piece in pieces_of(old.open(name)):
                    out.write(piece)
        total += out.bytes if old.key is None else sealed_size(out.bytes)
        if total >= limit:
            return None
    return total


def _names(manifest: Manifest) -> list[tuple[str, str]]:
    """Every file of a bundle, and its name when the bundle is coded."""
    coded = manifest.model_copy(update={"codec": "arithmetic"})
    return [(name, coded.stored_name(name)) for name in (MANIFEST, *manifest.files)]


class _Counted:
    """Counts what goes to a sink, if there is one; a `Sink`."""

    def __init__(self, sink: Sink | None) -> None:
        self.bytes = 0
        self._sink = sink

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        if self._sink is not None:
            self._sink.write(data)
        self.bytes += len(data)
        return len(data)

    def rewrite(self, data: bytes, /) -> None:
        if self._sink is not None:
            self._sink.rewrite(data)


def _verify(original: Bundle, new: Path) -> None:
    """Read everything back from disk: every file's content must have the digest that the original's manifest lists.

    Raises:
        StorageError: it has not.
    """
    for file in new.rglob("*"):
        if file.is_file():
            with open_regular(file) as descriptor:  # so that the disk is read, not what was just written to memory
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    copy = load_bundle(new)
    if copy.content_digest != original.content_digest or copy.samples != original.samples:
        raise StorageError(
            "what was written does not read back as what was there; the bundle is as it was",
            where=original.path,
            cure="Check the disk and the memory of this machine",
        )


def _check_space(path: Path, needed: int) -> None:
    free = shutil.disk_usage(path).free
    if free < needed + _SPARE_BYTES:
        raise StorageError(
            f"{free:,} bytes are free on the disk; {needed + _SPARE_BYTES:,} may be needed while both forms are there",
            where=path,
            cure="Free some space; smaller bundles may still be compressed, with --keep-going",
        )


def _state(path: Path) -> dict[str, tuple[int, ...]]:
    """What tells whether it was changed or replaced: its inode; inode, size and modification time of each file."""
    found: dict[str, tuple[int, ...]] = {"": (path.lstat().st_ino,)}
    for file in path.rglob("*"):
        status = file.lstat()
        if not stat.S_ISDIR(status.st_mode):
            found[str(file.relative_to(path))] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return found


def _changed(path: Path) -> BundleDigestError:
    return BundleDigestError(
        "it was changed while it was compressed, and is left as it is", where=path, cure="Run again when nothing writes"
    )
