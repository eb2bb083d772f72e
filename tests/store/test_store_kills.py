"""Cache, ledger and audit log, killed and failed at every single write, fsync, rename and unlink."""

from __future__ import annotations

import errno
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from model_forensics.store import AuditLog, Cache, Ledger, cache_key
from tests.kill_points import COMPILER, KillPoints, compile_shim

pytestmark = [pytest.mark.slow, pytest.mark.skipif(COMPILER is None, reason="needs a C compiler")]

KEYS = [cache_key("test", number=number) for number in range(3)]
USE = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from model_forensics.errors import StorageError
from model_forensics.store import AuditLog, Cache, Ledger, LedgerRow
place, what, name = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
try:
    if what == "cache":
        done = Cache(place / "cache", 5000).put(name, name.encode() * 32)
    elif what == "ledger":
        row = LedgerRow(name, datetime.now(UTC), bundle_id=name, verdict="no_fix_found", seconds={"total": 1.0})
        done = Ledger(place / "ledger.sqlite").append(row)
    else:
        done = bool(AuditLog(place / "audit.jsonl").append({"event": "note", "name": name}))
except StorageError:
    done = False
print("done" if done else "not done")
"""


def check_cache(place: Path, earlier: int, done: bool) -> None:
    """Entries are whole or missing; of the two that fit, the one before may go for the new one, and the bound holds."""
    cache = Cache(place / "cache", 5000)
    found = [cache.get(key) for key in KEYS]
    assert all(value in (None, key.encode() * 32) for key, value in zip(KEYS, found, strict=True))
    assert found[earlier] is not None or not done
    assert cache.put(KEYS[earlier], KEYS[earlier].encode() * 32)
    assert sum(path.stat().st_size for path in (place / "cache" / "entries").rglob("*") if path.is_file()) <= 5000
    assert not list((place / "cache" / "staging").iterdir())


def check_ledger(place: Path, earlier: int, done: bool) -> None:
    runs = Ledger(place / "ledger.sqlite").statistics().runs
    assert runs == earlier + 1 if done else runs in (earlier, earlier + 1)


def check_audit(place: Path, earlier: int, done: bool) -> None:
    log = AuditLog(place / "audit.jsonl")
    if not log.path.exists():
        assert not done
        return
    found = log.verify()
    assert found.lines == earlier + 1 if done else found.lines in (earlier, earlier + 1)
    log.append({"event": "note", "name": "after"})
    assert log.verify().lines == found.lines + 1 or found.torn


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_shim(tmp_path_factory.mktemp("shim"))


@pytest.mark.parametrize("earlier", [0, 2])
@pytest.mark.parametrize(
    ("what", "check"),
    [("cache", check_cache), ("ledger", check_ledger), ("audit", check_audit)],
    ids=["cache", "ledger", "audit"],
)
def test_killed_or_failed_anywhere(shim, tmp_path, what: str, check: Callable[[Path, int, bool], None], earlier: int):
    def command(place: Path, number: int) -> list[str | Path]:
        return [sys.executable, "-c", USE, place, what, KEYS[number]]

    before = tmp_path / "before"
    before.mkdir()
    for number in range(earlier):
        KillPoints(shim, before).run(command(before, number))
    place = tmp_path / "place"
    points = KillPoints(shim, place)
    shutil.copytree(before, place)
    calls = points.run(command(place, earlier)).calls
    assert calls > 3
    for at in range(1, calls + 1):
        for action in ("before", "torn", f"errno:{errno.ENOSPC}", f"errno:{errno.EIO}"):
            shutil.rmtree(place)
            shutil.copytree(before, place)
            outcome = points.run(command(place, earlier), at=at, action=action)
            assert outcome.killed or outcome.returncode == 0, outcome.stderr
            check(place, earlier, outcome.stdout == "done\n")
