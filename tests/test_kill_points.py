"""The harness itself: that it counts, kills and fails where it says."""

from __future__ import annotations

import errno
import sys

import pytest

from tests.kill_points import COMPILER, KillPoints, compile_shim

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
    assert done.calls > 6  # write, fsync, rename, and more than three of SQLite's
    assert KillPoints(shim, tmp_path / "elsewhere").run([sys.executable, "-c", PROGRAM, tmp_path]).calls == 0


@pytest.mark.parametrize(
    ("at", "action", "written", "named"),
    [
        (1, "before", 0, False),
        (1, "torn", 50_000, False),
        (1, "after", 100_000, False),
        (3, "before", 100_000, False),
        (3, "after", 100_000, True),
    ],
)
def test_kills_at_the_chosen_call(shim, tmp_path, at, action, written, named):
    outcome = run(shim, tmp_path, at=at, action=action)
    assert outcome.killed
    assert outcome.calls == at
    assert [path.name for path in tmp_path.iterdir()] == ["a" if named else "a.tmp"]
    assert next(tmp_path.iterdir()).stat().st_size == written


def test_every_point_is_reached(shim, tmp_path):
    for at in range(1, run(shim, tmp_path).calls + 1):
        place = tmp_path / str(at)
        place.mkdir()
        assert run(shim, place, at=at).killed


def test_fails_the_chosen_call(shim, tmp_path):
    outcome = run(shim, tmp_path, at=2, action=f"errno:{errno.ENOSPC}")
    assert outcome.returncode == 1
    assert "No space left on device" in outcome.stderr
    assert (tmp_path / "a.tmp").stat().st_size == 100_000


def test_kills_the_whole_group(shim, tmp_path):
    parent = "import subprocess, sys; subprocess.run([sys.executable, '-c', *sys.argv[1:]])"
    command = [sys.executable, "-c", parent, PROGRAM, tmp_path]
    points = KillPoints(shim, tmp_path)
    assert points.run(command, at=1).returncode == 0  # only the child is gone
    assert points.run(command, at=1, whom="group").killed
