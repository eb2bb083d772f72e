"""Lines that each hold the hash of the one before."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from model_forensics.errors import AuditError
from model_forensics.files import dump_json, parse_json, sha256_bytes

_HASH = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Head:
    """What is acknowledged of a log: so many lines, in so many bytes, the last with this hash."""

    lines: int
    bytes: int
    hash: str

    @staticmethod
    def parse(content: Any, where: Path) -> Head:
        """From the JSON of a head file.

        Raises:
            AuditError: it is none.
        """
        if isinstance(content, dict) and set(content) == {"lines", "bytes", "hash"}:
            lines, size, last = content["lines"], content["bytes"], content["hash"]
            numbers = all(type(number) is int and number >= 0 for number in (lines, size))
            if numbers and isinstance(last, str) and _HASH.fullmatch(last):
                return Head(lines, size, last)
        raise AuditError("is no head of an audit log", where=where, cure="Restore it from a copy")


START: Final = Head(0, 0, sha256_bytes(b"model-forensics audit log"))


def seal(entry: dict[str, Any], lines: int, previous: str, torn: str | None) -> tuple[bytes, str]:
    """The line after `lines` others, and its hash."""
    open_line = {"line": lines + 1, **entry, **({} if torn is None else {"torn": torn}), "previous": previous}
    sealed = sha256_bytes(dump_json(open_line, indent=None))
    return dump_json({**open_line, "hash": sealed}, indent=None), sealed


class Chain:
    """Follows a log's lines from a known one on.

    Attributes:
        lines, last: number and hash of the last line that fits.
        offset: bytes up to its end.
        torn: bytes behind it that are no line that fits.
        open_runs: actions that were started and not finished.
    """

    def __init__(self, start: Head, where: Path, *, known: str | None = None) -> None:
        self.lines, self.offset, self.last = start.lines, start.bytes, start.hash
        self.torn = bytearray()
        self.open_runs: set[str] = set()
        self.known_seen = known in (None, start.hash)
        self._known = known
        self._where = where
        self._hashes = [start.hash]  # from the first line on that was given
        self._first = start.lines

    def read(self, lines: Iterable[bytes]) -> None:
        """Follows these lines; what fits nowhere is left in `torn`."""
        for line in lines:
            entry = _unsealed(line)
            if entry is not None and self._fits(entry):
                self._take(entry, len(line))
            else:
                self.torn += line

    def finish_line(self) -> bool:
        """Takes a last line that lacks nothing but its line break; the caller writes that."""
        begin = self.torn.rfind(b"\n") + 1
        line = bytes(self.torn[begin:]) + b"\n"
        before, self.torn = self.torn, self.torn[:begin]
        entry = _unsealed(line)
        if entry is not None and self._fits(entry):
            self._take(entry, len(line))
            return True
        self.torn = before
        return False

    @property
    def torn_mark(self) -> str | None:
        """What the next line says about the bytes before it."""
        return sha256_bytes(self.torn.removesuffix(b"\n")) if self.torn else None  # the break may be the next writer's

    def hash_of(self, line: int) -> str:
        return self._hashes[line - self._first]

    def explain_torn(self) -> str:
        """What is wrong with the first line that does not fit."""
        number = self.lines + 1
        entry = _unsealed(bytes(self.torn[: self.torn.find(b"\n") + 1]))
        if entry is None:
            return f"line {number} was changed"
        if entry["line"] > number:
            last = entry["line"] - 1
            return f"line {number} was removed" if last == number else f"lines {number} to {last} were removed"
        if entry["line"] < number:
            return f"line {entry['line']} is again at line {number}: lines were moved or added"
        return f"line {number} does not follow line {number - 1}: one of them was replaced"

    def _fits(self, entry: dict[str, Any]) -> bool:
        follows = entry["line"] == self.lines + 1 and entry["previous"] == self.last
        return bool(follows and entry.get("torn") == self.torn_mark)

    def _take(self, entry: dict[str, Any], size: int) -> None:
        self.lines, self.last = self.lines + 1, entry["hash"]
        self.offset += len(self.torn) + size
        self.torn = bytearray()
        self._hashes.append(self.last)
        self.known_seen = self.known_seen or self.last == self._known
        run = entry.get("run")
        if entry.get("event") == "started":
            self.open_runs.add(str(run))
        else:
            self.open_runs.discard(str(run))


def _unsealed(line: bytes) -> dict[str, Any] | None:
    """The entry of a line that is, byte for byte, as its hash says; None for any other."""
    try:
        entry = parse_json(line, where="", error=AuditError)
    except AuditError:
        return None
    if not isinstance(entry, dict) or type(entry.get("line")) is not int or "previous" not in entry:
        return None
    sealed = sha256_bytes(dump_json({key: value for key, value in entry.items() if key != "hash"}, indent=None))
    return entry if entry.get("hash") == sealed and dump_json(entry, indent=None) == line else None
