"""The harness itself: that it counts, kills and fails where it says."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.kill_points import COMPILER, Forks, KillPoints, Point, compile_shim

pytestmark = pytest.mark.skipif(COMPILER is None, reason="needs a C compiler")

PROGRAM = """
import os, sqlite3, sys
place = sys.argv[1]
with open(f"{place}/a.tmp", "wb") as stream:
    stream.write(b"x" * 100_000)
    stream.flush()
    os.fsync(stream.fileno())
os.replace(f"{place}/a.tmp", f"{place}/a")
with sqlite3.connect(f"{place}/b") as connection:
    connection.execute("create table t (x)")
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    return compile_shim(tmp_path_factory.mktemp("shim"))


def run(shim, place, **options):
    return KillPoints(shim, place).run([sys.executable, "-c", PROGRAM, place], **options)


def test_counts_what_python_and_sqlite_change(shim, tmp_path):
    done = run(shim, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.calls > 7  # open, write, fsync, rename, and more than three of SQLite's
    assert KillPoints(shim, tmp_path / "elsewhere").run([sys.executable, "-c", PROGRAM, tmp_path]).calls == 0


@pytest.mark.parametrize(
    ("at", "action", "written", "named"),
    [
        (1, "before", None, False),
        (1, "after", 0, False),
        (2, "before", 0, False),
        (2, "torn", 50_000, False),
        (2, "after", 100_000, False),
        (4, "before", 100_000, False),
        (4, "after", 100_000, True),
    ],
)
def test_kills_at_the_chosen_call(shim, tmp_path, at, action, written, named):
    outcome = run(shim, tmp_path, at=at, action=action)
    assert outcome.killed
    assert outcome.calls == at
    there = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert there == ({} if written is None else {"a" if named else "a.tmp": written})


def test_every_point_is_reached(shim, tmp_path):
    for at in range(1, run(shim, tmp_path).calls + 1):
        place = tmp_path / str(at)
        place.mkdir()
        assert run(shim, place, at=at).killed


def test_fails_the_chosen_call(shim, tmp_path):
    outcome = run(shim, tmp_path, at=3, action=f"errno:{errno.ENOSPC}")
    assert outcome.returncode == 1
    assert "No space left on device" in outcome.stderr
    assert (tmp_path / "a.tmp").stat().st_size == 100_000


@pytest.mark.parametrize(("action", "renamed"), [("full", True), ("dead", False)])
def test_fails_all_calls_from_one_on(shim, tmp_path, action, renamed):
    program = """
import os, sys
place = sys.argv[1]
os.mkdir(f"{place}/old")
for number in range(3):
    try:
        os.mkdir(f"{place}/{number}")
    except OSError:
        print(number)
try:
    os.rename(f"{place}/old", f"{place}/new")
except OSError:
    pass
"""
    outcome = KillPoints(shim, tmp_path).run([sys.executable, "-c", program, tmp_path], at=3, action=action)
    assert outcome.stdout.split() == ["1", "2"]
    assert (tmp_path / "new").exists() == renamed  # which takes no space


def test_kills_the_whole_group(shim, tmp_path):
    parent = "import subprocess, sys; subprocess.run([sys.executable, '-c', *sys.argv[1:]])"
    command = [sys.executable, "-c", parent, PROGRAM, tmp_path]
    points = KillPoints(shim, tmp_path)
    assert points.run(command, at=1).returncode == 0  # only the child is gone
    assert points.run(command, at=1, whom="group").killed


def write_twice(place: str) -> None:
    """With a second process, which outlives this one when only this one is killed."""
    Path(place, "one").write_bytes(b"x")
    if os.fork() == 0:
        time.sleep(0.1)
        Path(place, "two").write_bytes(b"x" * 10)
        os._exit(0)
    Path(place, "three").write_bytes(b"x")
    os.wait()


def test_forks_count_kill_and_wait_for_all(shim, tmp_path):
    with Forks(shim, "tests.test_kill_points") as forks:

        def run(**point):
            for path in tmp_path.iterdir():
                path.unlink()
            return forks.run(tmp_path, "tests.test_kill_points:write_twice", tmp_path, point=Point(**point))

        assert (run().returncode, run().calls) == (0, 6)
        assert run(at=3).killed
        assert (tmp_path / "two").stat().st_size == 10  # it had ended when `run` returned
        assert not (tmp_path / "three").exists()
        assert run(at=3, whom="group").killed
        assert not (tmp_path / "two").exists()
        failed = run(at=2, action=f"errno:{errno.EIO}")
        assert failed.returncode == 1
        assert "Input/output error" in failed.stderr
        with pytest.raises(subprocess.TimeoutExpired):
            forks.run(tmp_path, "time:sleep", 60, timeout=1)
