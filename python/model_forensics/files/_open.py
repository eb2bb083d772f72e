"""Opening a file that may be hostile."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from model_forensics.errors import BundleFormatError, InputRefused, UnsafeFileError


@contextmanager
def open_regular(path: Path | str, *, error: type[InputRefused] = BundleFormatError) -> Iterator[int]:
    """Open a regular file for reading and yield its descriptor; links, pipes and devices are refused unread.

    Args:
        path: the file.
        error: the class to raise where the file is missing or unreadable.

    Raises:
        UnsafeFileError: the file is a symbolic link or not a regular file.
        InputRefused: as `error`: the file is missing or unreadable.
    """
    try:
        # O_NONBLOCK: opening a pipe that nobody writes to must not hang.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as problem:
        raise _refusal(path, problem, error) from problem
    except ValueError as problem:  # a NUL character in the name
        raise UnsafeFileError(f"not a file name: {problem}", where=repr(str(path)), cure="Rename the file") from problem
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise UnsafeFileError("not a regular file", where=path, cure="Replace it by a plain file, or remove it")
        try:
            yield descriptor
        except OSError as problem:
            raise _refusal(path, problem, error) from problem
    finally:
        os.close(descriptor)


def _refusal(path: Path | str, problem: OSError, error: type[InputRefused]) -> InputRefused:
    if problem.errno == errno.ELOOP:
        return UnsafeFileError("a symbolic link, which is never followed", where=path, cure="Put the file itself there")
    if isinstance(problem, FileNotFoundError):
        return error("the file is missing", where=path, cure="Check the path, or copy the whole directory again")
    return error(f"cannot be read: {problem.strerror}", where=path, cure="Check the file's permissions and the disk")
