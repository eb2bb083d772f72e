"""Directories of files that belong together (bundles, baselines) and are encrypted together, with the suffix `.enc`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from model_forensics.errors import BundleFormatError, InputRefused
from model_forensics.files._content import Content
from model_forensics.files._key import EncryptionKey
from model_forensics.files._open_content import open_content
from model_forensics.files._protected import needed_key
from model_forensics.files._sealed import SEALED_SUFFIX, Seal


@dataclass(frozen=True)
class Storage:
    """Where the files of a container are, by the names that they have when they are not encrypted.

    Attributes:
        root: the directory.
        container: "bundle" or "baseline"; a file's role is this, a slash and its name.
        key: what all its files are encrypted with; None where they are plain.
    """

    root: Path
    container: str
    key: EncryptionKey | None

    @classmethod
    def of(cls, root: Path, container: str, index: str, key: EncryptionKey | None = None) -> Storage:
        """As the container's index is stored; plain where there is none at all.

        Args:
            index: name of the file that every such container has.
            key: of an encrypted container; None for the process's.

        Raises:
            EncryptionKeyError: it is encrypted, and there is no key, or a malformed one.
        """
        sealed = root / (index + SEALED_SUFFIX)
        return cls(root, container, (key or needed_key(sealed)) if os.path.lexists(sealed) else None)

    def name(self, name: str) -> str:
        """The name on disk."""
        return name if self.key is None else name + SEALED_SUFFIX

    def path(self, name: str) -> Path:
        return self.root / self.name(name)

    def seal(self, name: str) -> Seal | None:
        return None if self.key is None else Seal(self.key, f"{self.container}/{name}")

    def open(self, name: str, *, error: type[InputRefused] = BundleFormatError) -> Content:
        """Errors are those of `open_content`."""
        return open_content(self.path(name), self.seal(name), error=error)


def holds(directory: Path | str, index: str) -> bool:
    """Whether a container's index, plain or encrypted, is in the directory; it is not looked at."""
    place = os.path.join(directory, index)  # no Path: this is asked of hundreds of thousands
    return os.path.lexists(place) or os.path.lexists(place + SEALED_SUFFIX)
