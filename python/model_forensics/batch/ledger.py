"""The job ledger: which incidents are claimed, done, refused or poisoned. One SQLite file.

SQLite, because its transactions survive a kill or a power failure at any moment, hundreds of thousands of rows load in
under a second, and the summary is a few queries. Only the batch's main process writes; who else looks into it with
`sqlite3` meanwhile disturbs nothing.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, Self

from model_forensics.errors import LedgerError, StorageError
from model_forensics.types import IncidentFinding, IncidentState, printable

_APPLICATION = 0x4D464232  # "MFB2"
_TABLES = """
CREATE TABLE batch (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE incident (
  name TEXT PRIMARY KEY,           -- of the result
  state TEXT NOT NULL,
  run TEXT NOT NULL,               -- of the batch, that claimed it last
  attempt INTEGER NOT NULL,        -- how many of its analyses ended before
  deaths INTEGER NOT NULL,         -- workers that ended over this one
  bytes INTEGER, modified INTEGER, inode INTEGER,  -- of its manifest, when it was claimed
  digest TEXT,                     -- of its content, when it was analysed
  bundle_id TEXT, verdict TEXT, cause TEXT, signature TEXT,
  anomaly_score REAL, confidence REAL, flip_rate REAL, seconds REAL,
  error TEXT, ended_at TEXT
) STRICT, WITHOUT ROWID;
"""
_FOUND = ("bundle_id", "verdict", "cause", "signature", "anomaly_score", "confidence", "flip_rate", "seconds")


class Stamp(NamedTuple):
    """What tells cheaply that a bundle is the one that was there before: size, time and inode of its manifest."""

    bytes: int | None
    modified: int | None
    inode: int | None


class Row(NamedTuple):
    state: IncidentState
    attempt: int
    deaths: int
    stamp: Stamp
    digest: str | None


class Ledger:
    """Use as a context manager.

    Raises, from every method:
        LedgerError: the file is no ledger of this release, or damaged.
        StorageError: it cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._named_errors():
            self._database = sqlite3.connect(path, isolation_level=None, timeout=60)
        try:
            self._open()
        except BaseException:
            self._database.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    # --- the batch --------------------------------------------------------------------------------

    def settings(self) -> dict[str, str | None] | None:
        """What the batch was started with; None for a new one."""
        with self._named_errors():
            found = self._database.execute("SELECT value FROM batch WHERE key = 'settings'").fetchone()
        return None if found is None else dict(json.loads(found[0]))

    def settle(self, settings: dict[str, str | None]) -> None:
        """Keeps the settings, and when the batch was started."""
        with self._change() as database:
            database.execute("INSERT OR REPLACE INTO batch VALUES ('settings', ?)", [json.dumps(settings)])
            database.execute("INSERT OR IGNORE INTO batch VALUES ('started_at', ?)", [_now()])

    def started_at(self) -> datetime:
        with self._named_errors():
            (text,) = self._database.execute("SELECT value FROM batch WHERE key = 'started_at'").fetchone()
        return datetime.fromisoformat(text)

    def forget(self) -> None:
        """Empties the ledger. `being_cleared` holds until `cleared` says that the results are gone, too."""
        with self._change() as database:
            database.execute("DELETE FROM incident")
            database.execute("DELETE FROM batch")
            database.execute("INSERT INTO batch VALUES ('being_cleared', 'yes')")

    def being_cleared(self) -> bool:
        with self._named_errors():
            return self._database.execute("SELECT 1 FROM batch WHERE key = 'being_cleared'").fetchone() is not None

    def cleared(self) -> None:
        with self._change() as database:
            database.execute("DELETE FROM batch WHERE key = 'being_cleared'")

    # --- incidents --------------------------------------------------------------------------------

    def finished(self) -> set[tuple[str, int | None, int | None, int | None]]:
        """Names and stamps of the incidents with a result, and of benign recordings: 200,000 in a fifth of a second."""
        with self._named_errors():
            found = self._database.execute(
                "SELECT name, bytes, modified, inode FROM incident WHERE state IN ('done', 'benign')"
            )
            return set(found)

    def row(self, name: str) -> Row | None:
        """An incident's; None for one that was not claimed yet."""
        query = "SELECT state, attempt, deaths, bytes, modified, inode, digest FROM incident WHERE name = ?"
        with self._named_errors():
            found = self._database.execute(query, [name]).fetchone()
        if found is None:
            return None
        state, attempt, deaths, size, modified, inode, digest = found
        return Row(state, attempt, deaths, Stamp(size, modified, inode), digest)

    def claim(self, name: str, stamp: Stamp, run: str, attempt: int, deaths: int) -> None:
        """A worker is about to get this incident, which `deaths` workers did not survive so far."""
        with self._change() as database:
            database.execute(
                "INSERT OR REPLACE INTO incident (name, state, run, attempt, deaths, bytes, modified, inode) "
                "VALUES (?, 'running', ?, ?, ?, ?, ?, ?)",
                [name, run, attempt, deaths, *stamp],
            )

    def finish(self, name: str, finding: IncidentFinding) -> None:
        """Its result is complete in the staging directory; or it is a benign recording."""
        state = "benign" if finding.verdict is None else "done"
        values = [getattr(finding, column) for column in _FOUND]
        columns = ", ".join(f"{column} = ?" for column in _FOUND)
        with self._change() as database:
            database.execute(
                f"UPDATE incident SET state = ?, digest = ?, ended_at = ?, {columns} WHERE name = ?",
                [state, finding.content_digest, _now(), *values, name],
            )

    def fail(self, name: str, state: IncidentState, error: str, deaths: int) -> None:
        """It was refused, or is poisoned."""
        with self._change() as database:
            database.execute(
                "UPDATE incident SET state = ?, error = ?, deaths = ?, ended_at = ? WHERE name = ?",
                [state, printable(error), deaths, _now(), name],
            )

    def touch(self, stamps: Iterable[tuple[str, Stamp]]) -> None:
        """Bundles with other stamps but the content that was analysed: moved, copied or compressed."""
        with self._change() as database:
            database.executemany(
                "UPDATE incident SET bytes = ?, modified = ?, inode = ? WHERE name = ?",
                ((*stamp, name) for name, stamp in stamps),
            )

    def running(self) -> list[str]:
        with self._named_errors():
            return [name for (name,) in self._database.execute("SELECT name FROM incident WHERE state = 'running'")]

    def is_done(self, name: str, run: str) -> bool:
        """Whether this run of the batch called this incident done."""
        query = "SELECT 1 FROM incident WHERE name = ? AND run = ? AND state = 'done'"
        with self._named_errors():
            return self._database.execute(query, [name, run]).fetchone() is not None

    def query(self, statement: str) -> list[tuple[object, ...]]:
        """For the summary: rows of a SELECT."""
        with self._named_errors():
            return self._database.execute(statement).fetchall()

    # --- SQLite -----------------------------------------------------------------------------------

    def _open(self) -> None:
        with self._named_errors():
            (application,) = self._database.execute("PRAGMA application_id").fetchone()
            (tables,) = self._database.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            if application == 0 and tables == 0:  # new, or killed before its first transaction was complete
                self._database.executescript(
                    f"BEGIN IMMEDIATE; PRAGMA application_id = {_APPLICATION}; {_TABLES} COMMIT;"
                )
            elif application != _APPLICATION:
                what = "this is no ledger of a batch of this release"
                raise LedgerError(what, where=self.path, cure="Choose another output")

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        """One transaction; on disk when it ends."""
        with self._named_errors():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as problem:
            cure = "Check the disk and the permissions, then run it again with --resume"
            raise StorageError(f"the ledger cannot be used: {problem}", where=self.path, cure=cure) from problem
        except sqlite3.DatabaseError as problem:
            cure = "Restore it from a backup, or choose another output and start anew"
            raise LedgerError(f"the ledger is damaged: {problem}", where=self.path, cure=cure) from problem


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
