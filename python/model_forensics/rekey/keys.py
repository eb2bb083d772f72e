"""Which key something is encrypted with, and which one it is to have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from model_forensics.errors import EncryptionKeyError, UsageError
from model_forensics.files import (
    KEY_VARIABLE,
    OLD_KEY_VARIABLE,
    EncryptionKey,
    encryption_key,
    old_encryption_key,
)

Opened = TypeVar("Opened")


@dataclass(frozen=True)
class Keys:
    """A change of keys.

    Attributes:
        old: the key until now; None where nothing is encrypted yet.
        new: the key from now on; None to store everything plain.
        further: one more that something may still have, from a change of keys that was not finished.
    """

    old: EncryptionKey | None
    new: EncryptionKey | None
    further: EncryptionKey | None = None

    @classmethod
    def of_process(cls, *, decrypt: bool = False) -> Keys:
        """From the environment: from the old key to the present one; with `decrypt`, from both of them to none.

        Raises:
            UsageError: there is no key to encrypt, or decrypt, with.
            EncryptionKeyError: one is malformed.
        """
        old, present = old_encryption_key(), encryption_key()
        if decrypt:
            if (old or present) is None:
                raise UsageError("no key to decrypt with", cure=f"Set {KEY_VARIABLE}")
            return cls(old, None, present)
        if present is None:
            raise UsageError("no key to encrypt with", cure=f"Set {KEY_VARIABLE}, or ask to store everything plain")
        return cls(old, present)

    def opening(self, path: Path, attempt: Callable[[EncryptionKey], Opened]) -> tuple[EncryptionKey, Opened]:
        """The key that opens a file, first of all the new one, and what `attempt` gives with it.

        Raises:
            EncryptionKeyError: none does.
            CiphertextError: the file was altered.
        """
        for key in (self.new, self.old, self.further):
            if key is not None:
                try:
                    return key, attempt(key)
                except EncryptionKeyError:
                    continue
        raise EncryptionKeyError(
            "encrypted with another key than the old and the new one, or altered",
            where=path,
            cure=f"Set {OLD_KEY_VARIABLE} to the key that it was encrypted with",
        )
