"""The audit log: who did what, to what, when, and how it ended. JSON lines, each with the hash of the one before it.

Beside the log `<name>.head` says how many lines, how many bytes and which last hash are acknowledged; it is replaced
after each line is on the disk. So a line that is missing at the end is found too, and what a killed writer left behind
the acknowledged bytes is told apart from tampering. The log is only ever appended to (`chattr +a` is fine): bytes of a
line that was not finished stay, and the next line states their digest. Whoever can rewrite log and head together, from
some line on to the end, is found only by someone who kept an earlier hash (`verify(path, known=...)`).
"""

from __future__ import annotations

import fcntl
import logging
import os
import pwd
import secrets
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from model_forensics.errors import AuditError, ModelForensicsError, StorageError
from model_forensics.files import atomic_write, dump_json, read_json, sha256_bytes, storage_errors
from model_forensics.store.chain import START, Chain, Head, seal

Outcome = Literal["success", "partly_done", "refused", "interrupted", "failed"]

_log = logging.getLogger(__name__)
_LINES_OF_ONE_CRASH: Final = 1  # that can be whole without being acknowledged
MOST_LISTED: Final = 1000
"""Digests of one role that a line lists one by one; of more it holds their number and one digest over all."""


@dataclass(frozen=True)
class Verified:
    """A log whose every line is as it was written, in its order, and none is missing.

    Attributes:
        lines: how many.
        last: the last line's hash; kept elsewhere, it shows later that nothing up to here was rewritten.
        unfinished: actions that were started and have no end: running still, or killed.
        torn: bytes of a line behind the last one that a killed writer did not finish.
    """

    lines: int
    last: str
    unfinished: int
    torn: int


@dataclass
class Action:
    """One audited action; what it is about is added as it becomes known.

    Attributes:
        outcome: of a body that ends without an error; one that raises is refused, interrupted or failed.
    """

    digests: dict[str, Any] = field(default_factory=dict)
    outcome: Outcome = "success"

    def about(self, role: str, digest: str | Sequence[str] | None) -> None:
        """Notes a digest (`sha256:…`), or several, of what is read or written; None is not noted.

        More than `MOST_LISTED` are noted as their number and the SHA-256 of them all, sorted and a line each.
        """
        if digest is None:
            return
        if isinstance(digest, str):
            self.digests[role] = digest
        elif len(digest) <= MOST_LISTED:
            self.digests[role] = sorted(digest)
        else:
            lines = "".join(f"{one}\n" for one in sorted(digest))
            self.digests[role] = {"count": len(digest), "digest": sha256_bytes(lines.encode())}


class AuditLog:
    """The log at `path`; any number of processes may append at once. Nothing in it is secret, and no key ever is."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.head_path = self.path.with_name(self.path.name + ".head")

    def append(self, entry: dict[str, Any]) -> str:
        """Adds one line, on the disk when this returns, and gives its hash.

        Args:
            entry: JSON values, without `line`, `previous`, `torn` and `hash`.

        Raises:
            AuditError: the log is shorter than its head says, or one of them is missing or broken.
            StorageError: disk full or no permission; what was written of the line counts as torn.
        """
        with storage_errors(self.path):
            self.path.absolute().parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                return self._append_locked(descriptor, entry)
            finally:
                os.close(descriptor)  # and with it the lock

    def _append_locked(self, descriptor: int, entry: dict[str, Any]) -> str:
        size = os.fstat(descriptor).st_size
        head = self._read_head(empty=size == 0)
        if size < head.bytes:
            raise AuditError(
                f"it has {size:,} bytes, and {head.bytes:,} in {head.lines} lines were acknowledged: lines are missing",
                where=self.path,
                cure=_CURE,
            )
        if head == START:  # a log with lines has a head, whenever its writer is killed
            self._write_head(head)
        chain = Chain(head, self.path)
        chain.read(_from(descriptor, head.bytes))
        if chain.finish_line():
            _write(descriptor, b"\n")
        if chain.lines - head.lines > _LINES_OF_ONE_CRASH:
            raise self._too_many(chain, head)
        if chain.lines > head.lines:  # or the next crash would leave two
            os.fsync(descriptor)
            self._write_head(Head(chain.lines, chain.offset, chain.last))
        line, sealed = seal(entry, chain.lines, chain.last, chain.torn_mark)
        _write(descriptor, b"\n" + line if chain.torn and not chain.torn.endswith(b"\n") else line)
        os.fsync(descriptor)
        self._write_head(Head(chain.lines + 1, os.fstat(descriptor).st_size, sealed))
        return sealed

    def verify(self, *, known: str | None = None) -> Verified:
        """Checks every line.

        Args:
            known: a hash that `verify` or `append` gave earlier; it must be there still.

        Raises:
            AuditError: names the line that was changed, removed, added or moved; or the log or its head is missing.
        """
        if not self.path.is_file():
            raise AuditError("there is no such audit log", where=self.path, cure="Check the path")
        with storage_errors(self.path):
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH)
                head = self._read_head(empty=os.fstat(descriptor).st_size == 0)
                chain = Chain(START, self.path, known=known)
                chain.read(_from(descriptor, 0))
            finally:
                os.close(descriptor)
        self._compare(chain, head)
        if not chain.known_seen:
            raise AuditError(
                f"the line with hash {known} is not in it", where=self.path, cure="The log was rewritten from there on"
            )
        return Verified(chain.lines, chain.last, len(chain.open_runs), len(chain.torn))

    def _compare(self, chain: Chain, head: Head) -> None:
        """The whole chain against the head."""
        if chain.torn and chain.lines < head.lines:
            raise AuditError(chain.explain_torn(), where=self.path, cure=_CURE)
        if chain.lines < head.lines:
            raise AuditError(
                f"of {head.lines} acknowledged lines those after line {chain.lines} are missing at the end",
                where=self.path,
                cure=_CURE,
            )
        if chain.lines - head.lines > _LINES_OF_ONE_CRASH:
            raise self._too_many(chain, head)
        if chain.hash_of(head.lines) != head.hash:
            raise AuditError(
                f"line {head.lines} is not the one that {self.head_path.name} acknowledges", where=self.path, cure=_CURE
            )

    def _too_many(self, chain: Chain, head: Head) -> AuditError:
        return AuditError(
            f"lines {head.lines + 1} to {chain.lines} were not acknowledged: {self.head_path.name} is older",
            where=self.path,
            cure=_CURE,
        )

    def _read_head(self, *, empty: bool) -> Head:
        if not os.path.lexists(self.head_path):
            if not empty:
                raise AuditError(
                    f"{self.head_path.name} is missing, so whether lines are missing at the end cannot be told",
                    where=self.path,
                    cure="Restore it, or move the log away and keep it: a new one is begun",
                )
            return START
        return Head.parse(read_json(self.head_path, max_bytes=4096, error=AuditError), self.head_path)

    def _write_head(self, head: Head) -> None:
        atomic_write(self.head_path, dump_json(vars(head), indent=None))


_CURE = "Compare it with a copy kept elsewhere; to begin a new log, move it and its head away and keep them"


@contextmanager
def audited(path: Path | str | None, command: str) -> Iterator[Action]:
    """Audits the body: a line when it starts and one with its outcome when it ends; nothing where `path` is None.

    A `SystemExit` is how a command line ends, not an error: the outcome is the one that the action says.

    Raises:
        AuditError, StorageError: the log cannot be appended to. Before the body, nothing is done then; after it, what
            the body raised goes first, and the log's trouble is logged.
    """
    action = Action()
    if path is None:
        yield action
        return
    log = AuditLog(path)
    who = {"run": secrets.token_hex(8), "command": command, **_identity()}
    try:
        log.append({"at": _now(), "event": "started", **who})
    except StorageError as problem:
        what = f"the audit log cannot be written, so nothing is done: {problem.what}"
        raise StorageError(what, where=problem.where, cure=f"{problem.cure}; or correct audit_log") from problem
    try:
        yield action
    except BaseException as problem:
        try:
            log.append(_ended(who, action, *_outcome(action, problem)))
        except (AuditError, StorageError) as trouble:
            _log.error("the outcome of %s is not in the audit log: %s", command, trouble)
        raise
    log.append(_ended(who, action, action.outcome, None))


def verify(path: Path | str, *, known: str | None = None) -> Verified:
    """`AuditLog(path).verify(known=known)`."""
    return AuditLog(path).verify(known=known)


def _ended(who: dict[str, Any], action: Action, outcome: Outcome, error: str | None) -> dict[str, Any]:
    return {"at": _now(), "event": "finished", **who, "digests": action.digests, "outcome": outcome, "error": error}


def _outcome(action: Action, problem: BaseException) -> tuple[Outcome, str | None]:
    """The outcome, and the class of the error."""
    if isinstance(problem, SystemExit):
        return action.outcome, None
    name = type(problem).__name__
    if isinstance(problem, ModelForensicsError):
        return "refused", name
    return ("interrupted" if isinstance(problem, KeyboardInterrupt) else "failed"), name


def _identity() -> dict[str, Any]:
    """Not what the environment claims: the process's own user."""
    user = os.getuid()
    try:
        name = pwd.getpwuid(user).pw_name
    except KeyError:  # containers often run as a number without a name
        name = f"uid {user}"
    return {"user": name, "host": socket.gethostname(), "pid": os.getpid()}


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _from(descriptor: int, offset: int) -> Iterator[bytes]:
    """The file's lines from an offset on, each with its line break; the last one may lack it."""
    with open(descriptor, "rb", closefd=False) as stream:
        stream.seek(offset)
        yield from stream


def _write(descriptor: int, data: bytes) -> None:
    written = 0
    while written < len(data):
        written += os.write(descriptor, data[written:])
