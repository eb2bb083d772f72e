"""The results ledger: every analysis exactly once, whatever happens to processes, disks and results files."""

from __future__ import annotations

import resource
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest

from model_forensics.errors import LedgerError, StorageError
from model_forensics.store import Ledger, LedgerRow
from model_forensics.store.statistics import Finished, spread, summarise
from tests.store.processes import finish, kill_while_it_works, start

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def row(
    run: str, *, bundle: str = "inc", hours_ago: float = 0, verdict: str | None = "cause_found", **values
) -> LedgerRow:
    fixed = {"label": "cause", "causes": ("L3.mlp",), "flips": 9, "samples": 10, "flip_rate": 0.9}
    fixed = fixed if verdict == "cause_found" else {}
    found = {"run": run, "bundle_id": bundle, "verdict": verdict, **fixed, "seconds": {"total": 2.0}, **values}
    return LedgerRow(finished_at=NOW - timedelta(hours=hours_ago), **found)


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    return Ledger(tmp_path / "a place für ünicode? #%" / "ledger.sqlite")


def test_counts_findings_and_durations_come_back(ledger):
    ledger.append(row("1", bundle="a", seconds={"total": 3.0, "forensics": 1.0}))
    ledger.append(row("2", bundle="b", verdict="no_fix_found", anomaly_score=0.7))
    ledger.append(row("3", bundle="c", verdict=None, error="BundleDigestError", message="broken"))
    found = ledger.statistics(now=NOW)
    assert (found.runs, found.refused, found.incidents) == (3, 1, 2)
    assert found.verdicts == {"cause_found": 1, "no_fix_found": 1}
    assert found.errors == {"BundleDigestError": 1}
    assert [(cause.label, cause.sites, cause.incidents) for cause in found.causes] == [("cause", ("L3.mlp",), 1)]
    assert found.causes[0].flip_rates.p50 == 0.9
    assert found.anomaly_scores is not None
    assert found.anomaly_scores.count == 1
    assert found.seconds["total"].largest == 3.0
    assert found.seconds["forensics"].count == 1


def test_an_incident_analysed_again_counts_as_work_twice_and_as_a_finding_once(ledger):
    ledger.append(row("1", bundle_digest="sha256:x", causes=("L1.attn",)))
    ledger.append(row("2", bundle_digest="sha256:x", causes=("L2.mlp",)))
    ledger.append(row("3", bundle_digest="sha256:x", verdict=None, error="ModelError"))
    found = ledger.statistics(now=NOW)
    assert (found.runs, found.incidents) == (3, 1)
    assert [cause.sites for cause in found.causes] == [("L2.mlp",)]
    assert found.seconds["total"].count == 3


def test_a_row_that_is_entered_again_is_there_once(ledger):
    assert ledger.append(row("1"))
    assert not ledger.append(row("1", bundle="other"))
    assert ledger.statistics(now=NOW).runs == 1


def test_a_result_takes_the_place_of_a_refusal_of_the_same_run(ledger):
    ledger.append(row("1", verdict=None, error="StorageError"))
    assert ledger.append(row("1"))
    assert not ledger.append(row("1", verdict=None, error="StorageError"))
    found = ledger.statistics(now=NOW)
    assert (found.runs, found.refused, found.incidents, found.errors) == (1, 0, 1, {})
    assert found.seconds["total"].count == 1


def test_what_may_not_be_written_is_refused_by_the_check(ledger, monkeypatch):
    ledger.append(row("1"))
    monkeypatch.setattr("os.access", lambda place, mode: not (mode & 2 and str(place) == str(ledger.path.parent)))
    with pytest.raises(StorageError, match="not permitted"):
        ledger.check()


def test_locks_that_do_not_work_are_named(ledger, monkeypatch):
    """As on network file systems."""
    ledger.append(row("1"))
    real = sqlite3.connect

    class Unlockable(sqlite3.Connection):
        def execute(self, statement, *values):
            if statement.startswith("BEGIN"):
                problem = sqlite3.OperationalError("locking protocol")
                problem.sqlite_errorcode = sqlite3.SQLITE_PROTOCOL
                raise problem
            return super().execute(statement, *values)

    monkeypatch.setattr("sqlite3.connect", lambda *given, **more: real(*given, **more, factory=Unlockable))
    for use in (ledger.check, ledger.statistics, lambda: ledger.append(row("2"))):
        with pytest.raises(StorageError, match="locking protocol"):
            use()


def test_zones_and_clocks_that_are_set_back(ledger):
    east = timezone(timedelta(hours=9))
    ledger.append(LedgerRow("1", NOW.astimezone(east), bundle_id="a", verdict="no_fix_found"))
    ledger.append(LedgerRow("2", NOW - timedelta(hours=1), bundle_id="a", verdict="not_reproduced"))
    assert ledger.statistics(NOW, now=NOW).runs == 1
    assert ledger.statistics(now=NOW).verdicts == {"not_reproduced": 1}  # entered last, whatever the clock said


def test_since_takes_what_ended_then_or_later(ledger):
    for hours in (0, 23, 24, 25, 400):
        ledger.append(row(str(hours), bundle=str(hours), hours_ago=hours))
    assert ledger.statistics(NOW - timedelta(hours=24), now=NOW).runs == 3
    assert ledger.statistics(NOW - timedelta(hours=24), now=NOW).seconds["total"].count == 3
    assert ledger.statistics(now=NOW).runs == 5


def test_no_ledger_is_an_empty_one_and_reading_makes_none(ledger):
    found = ledger.statistics(now=NOW)
    assert (found.runs, found.incidents, found.flip_rates, found.seconds) == (0, 0, None, {})
    assert not ledger.path.exists()


def test_an_empty_file_is_a_ledger_without_rows(ledger):
    ledger.path.parent.mkdir()
    ledger.path.touch()
    assert ledger.statistics(now=NOW).runs == 0
    ledger.append(row("1"))
    assert ledger.statistics(now=NOW).runs == 1


def test_percentiles_are_values_that_occurred():
    for count in (1, 2, 3, 10, 99, 100, 101, 1000):
        values = np.random.default_rng(count).normal(size=count)
        found = spread(values.tolist())
        assert found is not None
        for name, per_cent in (("p50", 50), ("p90", 90), ("p99", 99)):
            assert getattr(found, name) == np.percentile(values, per_cent, method="inverted_cdf")


def test_the_most_frequent_cause_comes_first_and_workarounds_apart():
    rows = [Finished(str(n), "cause_found", "cause", ("L1.mlp",), 1.0, None, None, {}) for n in range(2)]
    rows += [Finished(f"w{n}", "workaround_found", "workaround", ("L1.mlp",), 0.5, None, None, {}) for n in range(3)]
    found = summarise(rows, since=None, until=NOW)
    assert [(cause.label, cause.incidents) for cause in found.causes] == [("workaround", 3), ("cause", 2)]


PROGRAM = """
import sys
from datetime import UTC, datetime
from model_forensics.store import Ledger, LedgerRow
path, name, count = sys.argv[1:]
for number in range(int(count)):
    found = {"bundle_id": name, "verdict": "no_fix_found", "seconds": {"total": 1.0}}
    row = LedgerRow(f"{name}-{number}", datetime.now(UTC), **found)
    Ledger(path).append(row)
    print(row.run, flush=True)
"""


def test_several_processes_append_at_once(ledger):
    finish([start(PROGRAM, ledger.path, f"process{number}", 25) for number in range(4)])
    found = ledger.statistics()
    assert (found.runs, found.incidents, found.seconds["total"].count) == (100, 4, 100)


def test_what_was_entered_survives_a_kill_and_nothing_is_half_there(ledger):
    said = []
    for number in range(10):
        said += kill_while_it_works(PROGRAM, ledger.path, f"killed{number}", 100_000, rounds=1, longest=0.05)
    database = sqlite3.connect(ledger.path)
    runs = {run for (run,) in database.execute("SELECT run FROM analyses")}
    assert {line.strip() for lines in said for line in lines} <= runs
    assert database.execute("SELECT count(*) FROM stages").fetchone() == (len(runs),)
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()
    assert ledger.append(row("after"))


@pytest.mark.parametrize(
    "content", [b"this is no database at all, and long enough to be read as one" * 40, b"\0" * 4096]
)
def test_a_file_that_is_no_database_is_refused_and_kept(ledger, content):
    ledger.path.parent.mkdir()
    ledger.path.write_bytes(content)
    for use in (ledger.check, ledger.statistics, lambda: ledger.append(row("1"))):
        with pytest.raises(LedgerError, match=r"damaged.*Move it away"):
            use()
    assert ledger.path.read_bytes() == content


def test_another_programs_database_is_refused_and_kept(ledger):
    ledger.path.parent.mkdir()
    other = sqlite3.connect(ledger.path)
    other.execute("CREATE TABLE theirs (a)")
    other.commit()
    before = ledger.path.read_bytes()
    with pytest.raises(LedgerError, match="no results ledger"):
        ledger.append(row("1"))
    assert ledger.path.read_bytes() == before


def test_a_later_releases_ledger_is_refused(ledger):
    ledger.append(row("1"))
    database = sqlite3.connect(ledger.path)
    database.execute("PRAGMA user_version = 2")
    database.close()
    with pytest.raises(LedgerError, match="its version is 2"):
        ledger.append(row("2"))


def test_a_damaged_page_is_named(ledger):
    for number in range(200):
        ledger.append(row(str(number), message="x" * 500, verdict=None, error="ModelError"))
    content = bytearray(ledger.path.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    ledger.path.write_bytes(bytes(content))
    with pytest.raises(LedgerError, match="damaged"):
        ledger.statistics()


def test_a_ledger_that_someone_holds_is_named_after_a_while(ledger):
    ledger.append(row("1"))
    holder = sqlite3.connect(ledger.path)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StorageError, match="another program holds it"):
        Ledger(ledger.path, patience=0.05).append(row("2"))
    holder.rollback()
    assert ledger.append(row("2"))


def test_a_full_disk_is_named_and_the_ledger_as_before(ledger):
    """A limit on the size of files stands for the disk."""
    for number in range(50):
        ledger.append(row(str(number)))
    size = ledger.path.stat().st_size

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    program = f"""
import signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from datetime import UTC, datetime
from model_forensics.errors import StorageError
from model_forensics.store import Ledger, LedgerRow
try:
    Ledger(sys.argv[1]).append(LedgerRow("big", datetime.now(UTC), message="x" * {10 * size}))
except StorageError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(ledger.path)], preexec_fn=limit, capture_output=True, text=True, check=True
    )
    assert "could not be read or written" in done.stdout
    assert ledger.statistics().runs == 50
    assert ledger.append(row("small"))
