"""Where bundles are rewritten: a hidden directory beside them, used by one process at a time; repaired after a kill."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from model_forensics.bundle.reader import load_bundle
from model_forensics.errors import BundleError, CiphertextError, EncryptionError, StorageError
from model_forensics.files import lock_directory, storage_errors
from model_forensics.processes import uninterrupted

WORKPLACE: Final = ".compress-bundles"
_NEW, _ASIDE = "new", "aside"


class Workplace:
    """The hidden directory `.compress-bundles` in a directory of bundles, locked while it is in use.

    `new/NAME` is a bundle that is being written or, after the exchange, the one that it replaced; `aside/NAME` is one
    that was moved away where names cannot be exchanged. Entering it repairs what a killed run left; see `recover`.

    Raises:
        StorageError: another process works there, or the directory cannot be written to.
    """

    def __init__(self, bundles: Path) -> None:
        self.bundles = bundles
        self.root = bundles / WORKPLACE

    def __enter__(self) -> Self:
        self._lock = lock_directory(self.root, "compress-bundles")
        try:
            self.recover()
        except BaseException:
            os.close(self._lock)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with storage_errors(self.root) if kind is None else suppress(OSError):
                self._remove_if_empty()
        finally:
            os.close(self._lock)

    @contextmanager
    def place_for(self, path: Path) -> Iterator[tuple[Path, Path]]:
        """Where the bundle's new form is written, and where the old one may go; both are removed in the end."""
        new, aside = self.root / _NEW / path.name, self.root / _ASIDE / path.name
        with storage_errors(self.root):
            new.parent.mkdir(exist_ok=True)
            aside.parent.mkdir(exist_ok=True)
        try:
            yield new, aside
        finally:
            with uninterrupted():
                if os.path.lexists(path):  # else it is the only copy
                    for place in (new, aside):
                        shutil.rmtree(place, ignore_errors=True)

    def recover(self) -> None:
        """Put back what a killed run had moved away, and remove what it left.

        Raises:
            StorageError: a bundle that was moved away has another one in its place: nobody but an operator can decide.
        """
        with storage_errors(self.root):
            for place in self._remains(_ASIDE) + self._remains(_NEW):
                home = self.bundles / place.name
                if not os.path.lexists(home) and (place.parent.name == _ASIDE or _is_whole(place)):
                    os.rename(place, home)
                elif place.parent.name == _NEW or _same_content(place, home):
                    shutil.rmtree(place)
                else:
                    raise StorageError(
                        f"a killed run had moved a bundle here from {home}, where another one is now",
                        where=place,
                        cure="Move one of the two elsewhere, and run it again",
                    )

    def _remains(self, kind: str) -> list[Path]:
        folder = self.root / kind
        return sorted(folder.iterdir()) if folder.is_dir() else []

    def _remove_if_empty(self) -> None:
        for kind in (_NEW, _ASIDE):
            if (self.root / kind).is_dir():
                (self.root / kind).rmdir()
        self.root.rmdir()


def _is_whole(place: Path) -> bool:
    try:
        load_bundle(place)
    except (BundleError, CiphertextError):  # not EncryptionKeyError: with another key it may well be whole
        return False
    return True


def _same_content(one: Path, other: Path) -> bool:
    try:
        return load_bundle(one).content_digest == load_bundle(other).content_digest
    except (BundleError, EncryptionError):
        return False
