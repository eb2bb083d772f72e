"""What is kept between runs: cache, results ledger, audit log. With what was kept before, and without."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from model_forensics.store import AuditLog, Cache, Ledger, LedgerRow, cache_key
from tests.kill_points import Outcome, Point
from tests.kills.scenario import KILLS, Scenario, at, named

ENTRIES = [cache_key("test", number=number) for number in range(3)]
BOUND = 5000  # two of them fit
EARLIER = 2
WRITTEN = "written"


def _value(entry: str) -> bytes:
    return entry.encode() * 32


def keep_earlier(root: str) -> None:
    for entry in ENTRIES[:EARLIER]:
        assert Cache(Path(root, "cache"), BOUND).put(entry, _value(entry))


def keep(root: str) -> None:
    """A cache that cannot be written to is no error."""
    if Cache(Path(root, "cache"), BOUND).put(ENTRIES[EARLIER], _value(ENTRIES[EARLIER])):
        print(WRITTEN)


def _row(number: int) -> LedgerRow:
    return LedgerRow(str(number), datetime.now(UTC), bundle_id="b", verdict="no_fix_found", seconds={"total": 1.0})


def enter_earlier(root: str) -> None:
    for number in range(EARLIER):
        Ledger(Path(root, "ledger.sqlite")).append(_row(number))


def enter(root: str) -> None:
    Ledger(Path(root, "ledger.sqlite")).append(_row(EARLIER))
    print(WRITTEN)


def note_earlier(root: str) -> None:
    for number in range(EARLIER):
        AuditLog(Path(root, "audit.jsonl")).append({"event": "note", "number": number})


def note(root: str) -> None:
    AuditLog(Path(root, "audit.jsonl")).append({"event": "note", "number": EARLIER})
    print(WRITTEN)


class Store(Scenario):
    """What was written is there; what was not is there whole or not at all; a failure has its name."""

    module = __name__

    def violations(self, point: Point, outcome: Outcome) -> Iterator[str]:
        if point in at(KILLS, point.at):
            if not outcome.killed:
                yield f"was not killed but ended with {outcome.returncode}"
        elif outcome.returncode != 0 and not named(outcome, "StorageError"):
            yield f"no named error: {outcome.stderr[-600:]}"
        yield from self.check(WRITTEN in outcome.stdout)
        again = self.run()
        if again.returncode or WRITTEN not in again.stdout:
            yield f"cannot be used any more: {again.stderr[-300:]}"
        yield from self.check(True)

    def check(self, written: bool) -> Iterator[str]:
        raise NotImplementedError

    @property
    def earlier(self) -> int:
        return EARLIER if self.prepare else 0


class NewCache(Store):
    name = "cache, new"
    act = "keep"

    def check(self, written: bool) -> Iterator[str]:
        """Entries are whole or missing, and the bound holds; those before may go for the new one."""
        cache = Cache(self.root / "cache", BOUND)
        found = [cache.get(entry) for entry in ENTRIES]
        if any(value not in (None, _value(entry)) for entry, value in zip(ENTRIES, found, strict=True)):
            yield "an entry has another value"
        if written and found[EARLIER] is None:
            yield "what was kept is not there"
        if self.earlier and found[EARLIER] is None and found[:EARLIER].count(None) > 1:
            yield "more entries went than needed"
        entries = self.root / "cache" / "entries"
        if sum(path.stat().st_size for path in entries.rglob("*") if path.is_file()) > BOUND:
            yield "the cache is larger than its bound"
        staging = self.root / "cache" / "staging"
        if written and list(staging.iterdir()):
            yield f"left over: {list(staging.iterdir())}"


class FullCache(NewCache):
    name = "cache, full"
    prepare = "keep_earlier"


class NewLedger(Store):
    name = "results ledger, new"
    act = "enter"

    def check(self, written: bool) -> Iterator[str]:
        runs = Ledger(self.root / "ledger.sqlite").statistics().runs
        if runs not in ([self.earlier + 1] if written else [self.earlier, self.earlier + 1]):
            yield f"{runs} rows"


class OldLedger(NewLedger):
    name = "results ledger"
    prepare = "enter_earlier"


class NewAuditLog(Store):
    """A line that a kill left unacknowledged stays, and the next run adds its own."""

    name = "audit log, new"
    act = "note"

    def violations(self, point: Point, outcome: Outcome) -> Iterator[str]:
        self._lines = [self.earlier, self.earlier + 1]
        yield from super().violations(point, outcome)

    def check(self, written: bool) -> Iterator[str]:
        log = AuditLog(self.root / "audit.jsonl")
        if not log.path.exists():
            if written or self.earlier:
                yield "it is gone"
            return
        lines = log.verify().lines
        if lines not in (self._lines[1:] if written else self._lines):
            yield f"{lines} lines"
        self._lines = [lines, lines + 1]


class OldAuditLog(NewAuditLog):
    name = "audit log"
    prepare = "note_earlier"
