"""A cache on disk: content-addressed, of bounded size, for any number of processes at once.

An entry is one file, whose name is its key, with the digest of its value. Readers take no lock: they see a whole entry
or none, whatever writers do. Writers take turns under a file lock, for as long as writing one entry takes; so whatever
a writer finds in `staging` was left by one that was killed, and `size`, what all entries take, needs no repair but the
count that every process makes before its first entry. It is raised before an entry appears: after a kill it is too
large, never too small.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from model_forensics.errors import CacheError, EncryptionKeyError, InputRefused, StorageError, UsageError
from model_forensics.files import read_protected, sha256_bytes, storage_errors, write_protected
from model_forensics.logs import LOGGER

FORMAT: Final = 1
ROOM: Final = 0.9  # of the bound is left full when entries go, so that not every new one sends others away
PATIENCE: Final = 30.0  # seconds to wait for other writers; then an entry is not kept
_KEY = re.compile(r"[0-9a-f]{64}")


def cache_key(kind: str, **parts: Any) -> str:
    """The key of what is computed from `parts`, JSON values that say everything that its value depends on."""
    content = json.dumps({"format": FORMAT, "kind": kind, **parts}, sort_keys=True, allow_nan=False)
    return sha256_bytes(content.encode()).removeprefix("sha256:")


class Cache:
    """The cache in `directory`, which is made with the first entry.

    Nothing that happens to the cache ends the work that uses it: what cannot be read is a miss, what cannot be written
    is not kept, and a warning says so.

    Args:
        directory: of this cache alone.
        max_bytes: what its entries may take together; those not used for longest go first.
    """

    def __init__(self, directory: Path | str, max_bytes: int, *, patience: float = PATIENCE) -> None:
        if max_bytes < 1:
            raise UsageError(f"a cache of {max_bytes} bytes", where=directory, cure="Give it room, or use none")
        self.directory = Path(directory)
        self.max_bytes = max_bytes
        self._patience = patience
        self._counted = False  # whether this process has

    def get(self, key: str) -> bytes | None:
        """The value, or None where there is none, or a broken one, which is removed."""
        path = self._path(key)
        try:
            data = read_protected(path, role=_role(key), max_bytes=self.max_bytes, error=CacheError)
        except EncryptionKeyError:
            return None  # of someone with another key
        except InputRefused as problem:
            if os.path.lexists(path):
                self._drop(path, str(problem))
            return None
        header, _, value = data.partition(b"\n")
        if header != _header(key, value):
            self._drop(path, "its content differs from its digest")
            return None
        with suppress(OSError):  # a cache that may only be read is one as well
            os.utime(path)
        return value

    def put(self, key: str, value: bytes) -> bool:
        """Keeps a value; False, with a warning, where that was not possible."""
        path = self._path(key)
        try:
            with storage_errors(self.directory), self._only_writer():
                return self._put(path, key, value)
        except StorageError as problem:
            LOGGER.warning("nothing was kept in the cache: %s", problem)
            return False

    def _put(self, path: Path, key: str, value: bytes) -> bool:
        staging = self.directory / "staging"
        staging.mkdir(mode=0o700, exist_ok=True)
        for left in os.scandir(staging):
            os.unlink(left)
        staged = staging / key
        write_protected(staged, _header(key, value) + b"\n" + value, role=_role(key))
        size = staged.stat().st_size
        if size > self.max_bytes:
            LOGGER.warning("nothing was kept in the cache: %d bytes are more than cache.size allows", size)
            staged.unlink()
            return False
        total = self._total()
        if total is None or total + size > self.max_bytes:
            total = self._shrink(self.max_bytes - size)
        self._set_total(total + size)
        path.parent.mkdir(exist_ok=True)
        os.replace(staged, path)
        return True

    def _shrink(self, limit: int) -> int:
        """What the entries take, once those not used for longest are gone where that exceeds `limit`."""
        entries = []
        for place in (self.directory / "entries").glob("*/*"):
            with suppress(FileNotFoundError):  # a reader found it broken
                found = place.stat()
                entries.append((found.st_mtime_ns, found.st_size, place))
        total = sum(size for _, size, _ in entries)
        goal = limit if total <= limit else min(limit, int(ROOM * self.max_bytes))
        for _, size, place in sorted(entries):
            if total <= goal:
                break
            place.unlink(missing_ok=True)
            total -= size
        self._counted = True
        return total

    def _total(self) -> int | None:
        """What all entries take at most; None where this process has to count."""
        try:
            return int((self.directory / "size").read_bytes()) if self._counted else None
        except (FileNotFoundError, ValueError):
            return None

    def _set_total(self, total: int) -> None:
        with open(self.directory / "size", "wb") as stream:
            stream.write(b"%d" % total)

    @contextmanager
    def _only_writer(self) -> Iterator[None]:
        (self.directory / "entries").mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._lock(descriptor)
            yield
        finally:
            os.close(descriptor)

    def _lock(self, descriptor: int) -> None:
        deadline = time.monotonic() + self._patience
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError as problem:
                if time.monotonic() > deadline:
                    raise StorageError(
                        f"another process has been writing for {self._patience:g} s",
                        where=self.directory,
                        cure="Look for a process that was stopped, or choose another cache.directory",
                    ) from problem
                time.sleep(0.005)

    def _drop(self, path: Path, reason: str) -> None:
        LOGGER.warning("a broken entry of the cache was removed: %s: %s", path, reason)
        with suppress(OSError):
            path.unlink()

    def _path(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise UsageError(f"no key of a cache: {key[:80]!r}", cure="Use `cache_key`")
        return self.directory / "entries" / key[:2] / key


def _role(key: str) -> str:
    return f"cache/{key}"


def _header(key: str, value: bytes) -> bytes:
    return json.dumps({"format": FORMAT, "key": key, "sha256": sha256_bytes(value), "bytes": len(value)}).encode()
