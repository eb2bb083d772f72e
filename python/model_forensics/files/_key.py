"""The key that files are encrypted with. This is the one place that reads it, and nothing ever shows it."""

from __future__ import annotations

import base64
import binascii
import os
import secrets
from typing import Final, NoReturn

from model_forensics.errors import EncryptionKeyError

KEY_VARIABLE: Final = "MODEL_FORENSICS_ENCRYPTION_KEY"
OLD_KEY_VARIABLE: Final = "MODEL_FORENSICS_OLD_ENCRYPTION_KEY"
KEY_BYTES: Final = 32


class EncryptionKey:
    """32 secret bytes. Equal keys are equal; nothing prints, copies to a file or pickles what they are."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        if len(secret) != KEY_BYTES:
            raise EncryptionKeyError(f"a key of {len(secret)} bytes", cure=f"Give exactly {KEY_BYTES} bytes")
        self._secret = bytes(secret)

    @classmethod
    def from_base64(cls, text: str, *, where: str) -> EncryptionKey:
        """The key that a text holds in base64; line breaks and spaces around it do not matter.

        Args:
            text: 44 characters.
            where: what error texts call the place that it came from.

        Raises:
            EncryptionKeyError: not base64, or not of 32 bytes. The text is not repeated.
        """
        cure = f"Set it to the base64 of exactly {KEY_BYTES} bytes, for example the output of: openssl rand -base64 32"
        try:
            secret = base64.b64decode(text.strip().encode("ascii"), validate=True)
        except (binascii.Error, UnicodeEncodeError):  # their texts and causes could hold parts of the key
            raise EncryptionKeyError("not base64", where=where, cure=cure) from None
        if len(secret) != KEY_BYTES:
            what = f"base64 of {len(secret)} bytes instead of {KEY_BYTES}"
            raise EncryptionKeyError(what, where=where, cure=cure) from None
        return cls(secret)

    @classmethod
    def random(cls) -> EncryptionKey:
        """A fresh key, for scratch files that nobody else is to read."""
        return cls(secrets.token_bytes(KEY_BYTES))

    @property
    def secret(self) -> bytes:
        """The bytes themselves, for the cipher only."""
        return self._secret

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EncryptionKey) and secrets.compare_digest(self._secret, other._secret)

    def __hash__(self) -> int:
        return hash(self._secret)

    def __repr__(self) -> str:
        return "EncryptionKey(secret)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an encryption key is not pickled; a process takes its own from the environment")


def encryption_key() -> EncryptionKey | None:
    """The key of this process, from `MODEL_FORENSICS_ENCRYPTION_KEY`; None where that is unset or empty.

    Raises:
        EncryptionKeyError: it is set and is not the base64 of 32 bytes.
    """
    text = os.environ.get(KEY_VARIABLE, "")
    return EncryptionKey.from_base64(text, where=KEY_VARIABLE) if text.strip() else None


def old_encryption_key() -> EncryptionKey | None:
    """The key before a change of keys, from `MODEL_FORENSICS_OLD_ENCRYPTION_KEY`; None where unset, empty or "none".

    Raises:
        EncryptionKeyError: it is something else, and not the base64 of 32 bytes.
    """
    text = os.environ.get(OLD_KEY_VARIABLE, "")
    return None if text.strip() in ("", "none") else EncryptionKey.from_base64(text, where=OLD_KEY_VARIABLE)
