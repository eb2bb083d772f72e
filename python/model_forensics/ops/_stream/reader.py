"""Reads the parts of a section, and trusts none."""

from __future__ import annotations

from typing import Final

from model_forensics.ops._arrays import Symbols

_MOST_GROUPS: Final = 5


class BrokenStream(ValueError):
    """A stream that is not one, is damaged, or is of another version; the text says where."""


class Reader:
    """Takes bytes from the front of a chunk."""

    def __init__(self, stream: Symbols) -> None:
        self.left = stream

    def take(self, size: int) -> Symbols:
        if size > self.left.size:
            raise BrokenStream("a section ends early")
        taken, self.left = self.left[:size], self.left[size:]
        return taken

    def byte(self) -> int:
        return int(self.take(1)[0])

    def varint(self, most: int) -> int:
        """Groups of seven bits, the lowest first, the highest bit set on all but the last."""
        value = 0
        for group in range(_MOST_GROUPS):
            byte = self.byte()
            value |= (byte & 0x7F) << (7 * group)
            if byte < 0x80:
                if value > most:
                    break
                return value
        raise BrokenStream("a section holds a number that is too large")


def varint(value: int) -> bytes:
    groups = bytearray()
    while value >= 0x80:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)
