"""Batches of toy incidents: what becomes of each, and what a second run does."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest

from model_forensics.batch.ledger import Ledger
from model_forensics.errors import BundleFormatError, LedgerError, StorageError, UsageError, WorkerError
from tests.batch.toy import Toy, check_results, make_bundles, noted, run_toy, runs


@pytest.fixture
def batch(tmp_path):
    """A function that runs a batch of the incidents in `bundles`."""

    def run(workers=1, **options):
        return run_toy(tmp_path / "bundles", tmp_path / "out", tmp_path / "log", workers, **options)

    return run


def states(tmp_path) -> dict[str, str]:
    with closing(sqlite3.connect(tmp_path / "out" / "batch.sqlite")) as database:
        return dict(database.execute("SELECT name, state FROM incident"))


def test_every_incident_has_its_result(batch, tmp_path):
    bundles = make_bundles(tmp_path / "bundles", a="done", b="done", c="benign", d="refused")
    summary = batch()
    check_results(bundles, tmp_path / "out")
    assert summary.counts == {"benign": 1, "done": 2, "refused": 1}
    assert (summary.failed, summary.found) == (1, 2)
    assert [(group.kind, group.key, group.count, group.incidents) for group in summary.groups] == [
        ("cause", "done", 2, ("a", "b"))
    ]
    (failure,) = summary.failures
    assert (failure.incident, failure.state) == ("d", "refused")
    assert "it is odd" in failure.error
    assert summary.durations.total == 2.0
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == summary.model_dump(mode="json")
    assert "2 incidents analysed" in (tmp_path / "out" / "summary.html").read_text()


@pytest.mark.parametrize("workers", [1, 3])
def test_everything_is_loaded_once_a_worker(batch, tmp_path, workers):
    make_bundles(tmp_path / "bundles", **{f"i{number}": "done" for number in range(9)})
    batch(workers, together=workers)
    assert noted(tmp_path / "log").count("load") == workers
    assert len(noted(tmp_path / "log")) == workers + 9


def test_a_finished_batch_is_not_done_again(batch, tmp_path):
    make_bundles(tmp_path / "bundles", a="done", b="refused", c="benign")
    first = batch()
    again = batch(resume=True)
    assert sorted(set(noted(tmp_path / "log"))) == ["a", "b", "c", "load"]
    assert len(noted(tmp_path / "log")) <= 3 + 2
    assert again.counts == first.counts
    assert again.started_at == first.started_at


def test_what_is_new_or_changed_is_done(batch, tmp_path):
    bundles = make_bundles(tmp_path / "bundles", a="done", b="done", c="refused")
    batch()
    make_bundles(bundles, a="refused", c="done", d="done")
    batch(resume=True)
    check_results(bundles, tmp_path / "out")  # the result of what `a` was is gone
    assert states(tmp_path) == {"a": "refused", "b": "done", "c": "done", "d": "done"}
    assert noted(tmp_path / "log").count("b") == 1


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("raises", "RuntimeError: out of patience"),
        ("aborts", "SIGABRT"),
        ("killed", "SIGKILL (the system does this when memory runs out)"),
    ],
)
def test_a_bundle_that_ends_its_worker_twice_is_poisoned(batch, tmp_path, behaviour, reason):
    bundles = make_bundles(tmp_path / "bundles", a=behaviour, b="done", c="done")
    summary = batch(2)
    check_results(bundles, tmp_path / "out")
    assert states(tmp_path) == {"a": "poisoned", "b": "done", "c": "done"}
    assert noted(tmp_path / "log").count("a") == 2
    assert reason in summary.failures[0].error
    (told,) = runs(tmp_path / "log", "poisoned")
    assert runs(tmp_path / "log").count(told) == 2  # both tries are one analysis
    batch(resume=True)
    assert noted(tmp_path / "log").count("a") == 2
    make_bundles(bundles, a="done")  # it has changed
    batch(resume=True)
    assert states(tmp_path)["a"] == "done"


def test_a_bundle_that_takes_too_long_is_poisoned(batch, tmp_path):
    bundles = make_bundles(tmp_path / "bundles", a="hangs", b="done")
    summary = batch(lease=1.0)
    check_results(bundles, tmp_path / "out")
    assert "longer than 1 s" in summary.failures[0].error


def test_what_failed_is_tried_again_when_asked(batch, tmp_path):
    make_bundles(tmp_path / "bundles", a="refused", b="raises", c="done")
    batch()
    batch(resume=True, retry=True)
    log = noted(tmp_path / "log")
    assert (log.count("a"), log.count("b"), log.count("c")) == (2, 4, 1)
    assert len(set(runs(tmp_path / "log"))) == 2 + 2 + 1
    assert len(set(runs(tmp_path / "log", "poisoned"))) == 2


@pytest.mark.parametrize(
    ("behaviour", "error", "what"), [("full", StorageError, "no space"), ("damaged", LedgerError, "no ledger")]
)
def test_what_all_share_stops_the_batch_and_blames_no_bundle(batch, tmp_path, behaviour, error, what):
    bundles = make_bundles(tmp_path / "bundles", a="done", b=behaviour, c="done")
    with pytest.raises(error, match=what):
        batch()
    assert states(tmp_path) == {"a": "done", "b": "running"}
    make_bundles(bundles, b="done")
    batch(resume=True)
    check_results(bundles, tmp_path / "out")
    assert noted(tmp_path / "log").count("a") == 1


def test_a_batch_that_is_there_is_kept(batch, tmp_path):
    bundles = make_bundles(tmp_path / "bundles", a="done", b="done")
    batch()
    before = (tmp_path / "out" / "results" / "a.json").stat()
    with pytest.raises(UsageError, match="--resume"):
        batch()
    assert (tmp_path / "out" / "results" / "a.json").stat() == before
    shutil.rmtree(bundles / "b")
    batch(force=True)
    check_results(bundles, tmp_path / "out")
    assert states(tmp_path) == {"a": "done"}


def test_files_that_no_batch_wrote_are_kept(batch, tmp_path):
    make_bundles(tmp_path / "bundles", a="done")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "summary.json").write_text("mine")
    for force in (False, True):
        with pytest.raises(UsageError, match="no batch wrote it"):
            batch(force=force)
    assert (tmp_path / "out" / "summary.json").read_text() == "mine"


def test_other_settings_are_refused(batch, tmp_path):
    bundles = make_bundles(tmp_path / "bundles", a="done")
    batch(settings="one")
    with pytest.raises(UsageError, match="option one, and this is two"):
        batch(settings="two", resume=True)
    make_bundles(bundles, b="done")
    with pytest.raises(UsageError, match="weights sha256:one, and this is sha256:two"):
        batch(weights="sha256:two", resume=True)
    shutil.move(bundles, tmp_path / "others")
    with pytest.raises(UsageError, match="directory"):
        run_toy(tmp_path / "others", tmp_path / "out", tmp_path / "log", resume=True)
    assert states(tmp_path) == {"a": "done"}


def test_one_batch_at_a_time(batch, tmp_path):
    make_bundles(tmp_path / "bundles", a="done")
    batch()
    with open(tmp_path / "out" / ".lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="another batch"):
            batch(resume=True)


def test_nothing_is_written_where_there_are_no_bundles(batch, tmp_path):
    (tmp_path / "bundles").mkdir()
    with pytest.raises(BundleFormatError, match="no bundles"):
        batch()
    assert not (tmp_path / "out").exists()


def test_a_damaged_ledger_is_refused(batch, tmp_path):
    make_bundles(tmp_path / "bundles", a="done")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "batch.sqlite").write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 16)
    with pytest.raises(LedgerError, match=r"batch\.sqlite"):
        batch(resume=True)
    (tmp_path / "out" / "batch.sqlite").unlink()
    with closing(sqlite3.connect(tmp_path / "out" / "batch.sqlite")) as database:
        database.execute("CREATE TABLE other (x)")
    with pytest.raises(LedgerError, match="no ledger"):
        batch(resume=True)


class NeverReady(Toy):
    def __call__(self):
        os.abort()


def test_workers_that_cannot_start_end_the_batch(batch, tmp_path, monkeypatch):
    make_bundles(tmp_path / "bundles", a="done")
    monkeypatch.setattr("tests.batch.toy.Toy", NeverReady)
    with pytest.raises(WorkerError, match="SIGABRT"):
        batch()


def test_interrupted(tmp_path):
    """Ctrl-C on a terminal reaches every process of the group."""
    bundles = make_bundles(tmp_path / "bundles", a="done", b="hangs")
    command = [sys.executable, "-m", "tests.batch.toy", bundles, tmp_path / "out", tmp_path / "log", "1"]
    process = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True, start_new_session=True)
    for _ in range(3000):
        if "b" in noted(tmp_path / "log"):
            break
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in errors
    assert process.returncode == -signal.SIGINT
    worker = int((tmp_path / "log").read_text().split()[-1])
    assert not os.path.exists(f"/proc/{worker}")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {".lock", "batch.sqlite", "results"}
    assert states(tmp_path) == {"a": "done", "b": "running"}
    make_bundles(bundles, b="done")
    run_toy(bundles, tmp_path / "out", tmp_path / "log", resume=True)
    check_results(bundles, tmp_path / "out")


def test_the_ledger_can_be_read_meanwhile(tmp_path):
    with Ledger(tmp_path / "batch.sqlite") as ledger, closing(sqlite3.connect(tmp_path / "batch.sqlite")) as reader:
        ledger.settle({"a": None})
        assert reader.execute("SELECT count(*) FROM incident").fetchone() == (0,)
