"""The results ledger: one row in a SQLite file for each analysis that ended, whatever happens to the results files.

A rollback journal, not WAL: WAL needs memory that all writers share, which network file systems do not have. Each row
is one transaction, so that after `kill -9` or a power failure it is there or not.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from model_forensics.errors import LedgerError, StorageError
from model_forensics.store.statistics import Finished, Statistics, summarise
from model_forensics.types import AnalysisResult, printable

LEDGER_FILE: Final = "ledger.sqlite"
APPLICATION_ID: Final = 0x4D464C47  # "MFLG", in the file's header: what kind of SQLite file it is
SCHEMA_VERSION: Final = 1
PATIENCE: Final = 60.0  # seconds to wait for other writers; one row takes them milliseconds

_TABLES = """
CREATE TABLE analyses (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    run TEXT NOT NULL UNIQUE,
    finished_at INTEGER NOT NULL,
    bundle_id TEXT,
    bundle_digest TEXT,
    bundle_path TEXT,
    verdict TEXT,
    label TEXT,
    causes TEXT,
    flips INTEGER,
    samples INTEGER,
    flip_rate REAL,
    flip_low REAL,
    flip_high REAL,
    confidence REAL,
    anomaly_score REAL,
    result_path TEXT,
    error TEXT,
    message TEXT
) STRICT;
CREATE INDEX analyses_finished_at ON analyses (finished_at);
CREATE TABLE stages (
    analysis INTEGER NOT NULL REFERENCES analyses (id),
    stage TEXT NOT NULL,
    seconds REAL NOT NULL,
    PRIMARY KEY (analysis, stage)
) STRICT, WITHOUT ROWID;
"""
_UNFIT = {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_SCHEMA, sqlite3.SQLITE_ERROR}
_MASK = 0xFF  # of SQLite's extended error codes


@dataclass(frozen=True)
class LedgerRow:
    """One analysis that ended: with a result, or refused.

    Attributes:
        run: names this analysis among all; a row whose `run` is there is not entered again.
        finished_at: with a time zone.
        bundle_digest: of the bundle's content; None for a recording in memory or a bundle that could not be opened.
        verdict: None exactly when the analysis was refused; then `error` is the error's class and `message` its text.
        label: of the fix set: `cause` or `workaround`.
        causes: sites of the fix set, sorted; None without one.
        flip_rate: with `flip_low` and `flip_high`, its interval; None without a fix set, like `flips` and `samples`.
        seconds: by stage, and `total`.
    """

    run: str
    finished_at: datetime
    bundle_id: str | None = None
    bundle_digest: str | None = None
    bundle_path: str | None = None
    verdict: str | None = None
    label: str | None = None
    causes: tuple[str, ...] | None = None
    flips: int | None = None
    samples: int | None = None
    flip_rate: float | None = None
    flip_low: float | None = None
    flip_high: float | None = None
    confidence: float | None = None
    anomaly_score: float | None = None
    result_path: str | None = None
    error: str | None = None
    message: str | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)

    @staticmethod
    def of(
        result: AnalysisResult, *, run: str, finished_at: datetime, digest: str | None, seconds: Mapping[str, float]
    ) -> LedgerRow:
        """The row of a result; `digest` is that of the incident's content."""
        fix = result.fix_set
        return LedgerRow(
            run=run,
            finished_at=finished_at,
            bundle_id=result.bundle_id,
            bundle_digest=digest,
            bundle_path=result.incident.path,
            verdict=result.verdict,
            label=None if fix is None else fix.label,
            causes=None if fix is None else tuple(sorted({one.site for one in fix.interventions})),
            flips=None if fix is None else fix.flips,
            samples=None if fix is None else fix.samples,
            flip_rate=None if fix is None else fix.flip_rate,
            flip_low=None if fix is None else fix.flip_interval.low,
            flip_high=None if fix is None else fix.flip_interval.high,
            confidence=result.confidence,
            anomaly_score=result.anomaly_score,
            result_path=result.export_path,
            seconds={**seconds, "total": result.execution_time},
        )


class Ledger:
    """The ledger at `path`. Any number of processes may use it at once; the file is made with the first row."""

    def __init__(self, path: Path | str, *, patience: float = PATIENCE) -> None:
        self.path = Path(path)
        self._patience = patience

    def check(self) -> None:
        """Refuse, before the work, a ledger that could not be written after it, as far as can be told without writing.

        Raises:
            LedgerError: the file is damaged, something else, or of a later release.
            StorageError: it cannot be read, or may not be written to.
        """
        if not self.path.exists():
            return
        for place in (self.path, self.path.absolute().parent):  # SQLite's journal lies beside it
            if not os.access(place, os.W_OK):
                what = "writing to the ledger is not permitted"
                raise StorageError(what, where=place, cure="Change the permissions, or choose another output_dir")
        with self._open():
            pass

    def append(self, row: LedgerRow) -> bool:
        """Enters a row; False when its `run` was there already, so that a row may be entered again after a crash.

        A result takes the place of a refusal of the same run: the disk was full, and the batch was resumed.

        Raises:
            LedgerError: the file is damaged, something else, or of a later release.
            StorageError: disk full, no permission, or locked for a minute; the ledger is as before.
        """
        values = {name: value for name, value in vars(row).items() if name != "seconds"}
        values["finished_at"] = _microseconds(row.finished_at)
        values = {name: printable(value) if isinstance(value, str) else value for name, value in values.items()}
        values["causes"] = None if row.causes is None else json.dumps(row.causes, ensure_ascii=False)
        names = ", ".join(values)
        places = ", ".join("?" for _ in values)
        with self._open(make=True) as database:
            if not _version(database):
                _create(database)
            if row.verdict is not None:
                _withdraw_refusal(database, row.run)
            entered = database.execute(
                f"INSERT INTO analyses ({names}) VALUES ({places}) ON CONFLICT (run) DO NOTHING", tuple(values.values())
            )
            if entered.rowcount == 0:
                return False
            stages = [(entered.lastrowid, stage, seconds) for stage, seconds in row.seconds.items()]
            database.executemany("INSERT INTO stages VALUES (?, ?, ?)", stages)
        return True

    def statistics(self, since: datetime | None = None, *, now: datetime | None = None) -> Statistics:
        """What analyses that ended at or after `since` found and took; of all without it.

        A ledger that is not there yet is an empty one.

        Raises:
            LedgerError: the file is damaged, something else, or of a later release.
            StorageError: it cannot be read.
        """
        finished: list[Finished] = []
        if self.path.exists():
            with self._open() as database:
                finished = list(_read(database, since)) if _version(database) else []
        return summarise(finished, since=since, until=now or datetime.now(UTC))

    @contextmanager
    def _open(self, *, make: bool = False) -> Iterator[sqlite3.Connection]:
        with self._named_errors():
            if make:
                self.path.absolute().parent.mkdir(parents=True, exist_ok=True)
            # A reader that may write rolls back what a killed writer left unfinished.
            mode = "rwc" if make else "rw" if os.access(self.path, os.W_OK) else "ro"
            uri = f"{self.path.absolute().as_uri()}?mode={mode}"
            with closing(sqlite3.connect(uri, uri=True, timeout=self._patience)) as database:
                database.isolation_level = None  # the module begins no transactions of its own
                with _transaction(database, writes=make):
                    self._check(database)
                    yield database

    def _check(self, database: sqlite3.Connection) -> None:
        identity, version = (
            database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        )
        empty = database.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0
        if identity != APPLICATION_ID and not (identity == 0 and empty):
            raise LedgerError(
                "is a SQLite file, but no results ledger", where=self.path, cure="Choose another output_dir"
            )
        if version > SCHEMA_VERSION:
            raise LedgerError(
                f"its version is {version}, this release reads {SCHEMA_VERSION}",
                where=self.path,
                cure="Use the release that wrote it, or choose another output_dir",
            )

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as problem:
            raise StorageError(
                f"the ledger's directory cannot be made: {problem.strerror}",
                where=self.path,
                cure="Check its permissions, or choose another output_dir",
            ) from problem
        except sqlite3.Error as problem:
            if getattr(problem, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & _MASK in _UNFIT:
                raise LedgerError(
                    f"the ledger is damaged: {problem}",
                    where=self.path,
                    cure="Move it away and run again: a new one is begun (sqlite3's .recover may save its rows)",
                ) from problem
            raise StorageError(
                f"the ledger could not be read or written: {problem}",
                where=self.path,
                cure="Check the disk's free space, the permissions, and whether another program holds it",
            ) from problem


@contextmanager
def _transaction(database: sqlite3.Connection, *, writes: bool) -> Iterator[None]:
    """The body at once or not at all, and all that it reads of one moment; other writers wait."""
    database.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


def _version(database: sqlite3.Connection) -> int:
    return int(database.execute("PRAGMA user_version").fetchone()[0])


def _create(database: sqlite3.Connection) -> None:
    for statement in _TABLES.split(";\n"):
        if statement.strip():
            database.execute(statement)
    database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _withdraw_refusal(database: sqlite3.Connection, run: str) -> None:
    for number in database.execute("SELECT id FROM analyses WHERE run = ? AND verdict IS NULL", (run,)).fetchall():
        database.execute("DELETE FROM stages WHERE analysis = ?", number)
        database.execute("DELETE FROM analyses WHERE id = ?", number)


def _read(database: sqlite3.Connection, since: datetime | None) -> Iterator[Finished]:
    """In the order in which they were entered, which clocks that are set back do not change."""
    earliest = -(1 << 63) if since is None else _microseconds(since)
    stages: dict[int, dict[str, float]] = {}
    for analysis, stage, seconds in database.execute(
        "SELECT analysis, stage, seconds FROM stages JOIN analyses ON id = analysis WHERE finished_at >= ?", (earliest,)
    ):
        stages.setdefault(analysis, {})[stage] = seconds
    columns = "id, bundle_digest, bundle_id, bundle_path, verdict, label, causes, flip_rate, anomaly_score, error"
    rows: sqlite3.Cursor = database.execute(
        f"SELECT {columns} FROM analyses WHERE finished_at >= ? ORDER BY id", (earliest,)
    )
    for number, digest, bundle_id, path, *found in rows:
        yield _finished(digest or bundle_id or path or f"#{number}", found, stages.get(number, {}))


def _finished(bundle: str, found: list[Any], seconds: dict[str, float]) -> Finished:
    verdict, label, causes, flip_rate, anomaly_score, error = found
    sites = None if causes is None else tuple(json.loads(causes))
    return Finished(bundle, verdict, label, sites, flip_rate, anomaly_score, error, seconds)


def _microseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000)
