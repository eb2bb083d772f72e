"""What is being written: a hidden sibling of its target, locked by the process that writes it, however that ends.

So what a killed process left can be told from what is being written, and the next one that writes the same target takes
it away. Names are numbered and not random for this: the next one need not search the directory.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Final

_BYTES: Final = 200  # of the target's name that are kept; a name has 255 at most
_NAME: Final = re.compile(r"\..+\.[0-9a-f]+\.tmp", re.DOTALL)  # hexadecimal in earlier releases


@contextmanager
def unfinished(target: Path, make: Callable[[Path], object]) -> Iterator[Path]:
    """A new hidden sibling of `target`, made with `make` and of this process alone until the body ends.

    Where the file system has no locks, what a kill leaves is never taken for abandoned, and stays.

    Args:
        make: makes a file or a directory; raises FileExistsError where something is there.
    """
    kept = os.fsdecode(os.fsencode(target.name)[:_BYTES])
    for number in count():
        place = target.with_name(f".{kept}.{number}.tmp")
        while _made(place, make) or (remove_abandoned(place) and _made(place, make)):
            with _lock(place) as locked:
                if locked is not False:  # else somebody took it for abandoned before it was locked
                    yield place
                    return


def _made(place: Path, make: Callable[[Path], object]) -> bool:
    try:
        make(place)
    except FileExistsError:
        return False
    return True


def remove_abandoned(place: Path, *, unchanged_for: float = 0.0) -> bool:
    """Remove what was being written by a process that is gone; says whether nothing is there any more.

    Args:
        place: as `unfinished` named it.
        unchanged_for: leave it if anything in it changed within so many seconds.
    """
    with _lock(place) as locked:
        if locked and time.time() - _last_change(place) >= unchanged_for:
            if place.is_dir():
                shutil.rmtree(place, ignore_errors=True)
            else:
                place.unlink(missing_ok=True)
    return not os.path.lexists(place)


def abandoned_in(directory: Path) -> list[Path]:
    """Directories that may be unfinished ones, by their names."""
    with os.scandir(directory) as entries:
        return [Path(one.path) for one in entries if _NAME.fullmatch(one.name) and one.is_dir(follow_symlinks=False)]


def remove_displaced(place: Path) -> None:
    """Remove what has got the name of an unfinished directory in exchange, unless somebody else does just now."""
    with _lock(place) as locked:
        if locked is not False:
            shutil.rmtree(place, ignore_errors=True)


@contextmanager
def _lock(place: Path) -> Iterator[bool | None]:
    """Whether this process has the lock until the body ends; None where the file system has none."""
    descriptor = None
    try:
        descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        locked = os.path.samestat(os.fstat(descriptor), os.lstat(place))  # else it was removed, or is another one
    except (BlockingIOError, FileNotFoundError):
        locked = False
    except OSError:  # no such locks here, or it is another user's
        locked = None
    try:
        yield locked
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _last_change(place: Path) -> float:
    """When a file in it was last written to, in seconds since 1970."""
    inside = [Path(folder, name) for folder, _, names in os.walk(place) for name in names]
    return max(path.lstat().st_mtime for path in (place, *inside))
