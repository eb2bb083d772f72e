"""What writing to a disk takes: errors by name, content that is there after a power failure, metadata that stay."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from model_forensics.errors import StorageError

_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
STORAGE_ERRNOS: Final = _FULL | {errno.EIO, errno.EROFS}
"""Failures of the disk, whatever was being done."""


@contextmanager
def storage_errors(path: Path | str) -> Iterator[None]:
    """Turn an `OSError` of the body into a `StorageError` that names `path`, the free space and the cure."""
    try:
        yield
    except OSError as problem:
        raise storage_error(Path(path), problem) from problem


def sync_tree(directory: Path) -> None:
    """Fsync every file and directory below, and the directory itself."""
    for folder, _, files in os.walk(directory, topdown=False):
        for name in files:
            with storage_errors(Path(folder, name)):
                sync(Path(folder, name))
        sync(Path(folder))


def sync(path: Path) -> None:
    """Fsync a file, or a directory's names."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def keep_metadata(source: Path, target: Path) -> None:
    """Owner, group, permissions, extended attributes and times of modification, as they are."""
    wanted, made = source.stat(), target.stat()
    if (wanted.st_uid, wanted.st_gid) != (made.st_uid, made.st_gid):
        os.chown(target, wanted.st_uid, wanted.st_gid)
    shutil.copystat(source, target)


def storage_error(path: Path, problem: OSError) -> StorageError:
    """The named form of a failure to write."""
    cause = problem.strerror or str(problem)
    if problem.errno in _FULL:
        cure = "Free some space or lift the limit, or choose another directory, and run it again"
    else:
        cure = "Check the directory's permissions and the disk, or choose another directory"
    return StorageError(f"writing failed: {cause} ({_free_space(path)})", where=path, cure=cure)


def _free_space(path: Path) -> str:
    while not path.is_dir() and path != path.parent:
        path = path.parent
    try:
        return f"{shutil.disk_usage(path).free / 1e6:,.1f} MB free on the disk"
    except OSError as problem:
        return f"free space unknown: {problem.strerror}"
