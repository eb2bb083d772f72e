"""What is being written is nobody else's; what a killed writer left goes away."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from model_forensics.bundle import compress_bundles
from model_forensics.files import _unfinished, abandoned_in, atomic_directory, atomic_write, remove_abandoned
from tests.kills.bundles import record

LEAVE = """
import os, sys
from model_forensics.files import atomic_directory
with atomic_directory(sys.argv[1]) as place:
    (place / "activations").mkdir()
    (place / "activations" / "half").write_bytes(b"x")
    print(place, flush=True)
    os._exit(9) if sys.argv[2] == "killed" else sys.stdin.read()
"""


def leave(target: Path) -> Path:
    """What a killed writer left."""
    done = subprocess.run([sys.executable, "-c", LEAVE, target, "killed"], capture_output=True, text=True, check=False)
    assert done.returncode == 9, done.stderr
    return Path(done.stdout.strip())


def test_the_next_writer_removes_what_a_killed_one_left(tmp_path):
    left = leave(tmp_path / "ein Name ü")
    assert left.is_dir()
    with atomic_directory(tmp_path / "ein Name ü") as place:
        assert place == left
        assert not any(place.iterdir())
    assert [path.name for path in tmp_path.iterdir()] == ["ein Name ü"]


def test_what_is_being_written_stays(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", LEAVE, tmp_path / "b", "waits"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    place = Path(process.stdout.readline().strip())
    assert abandoned_in(tmp_path) == [place]
    assert not remove_abandoned(place)
    with atomic_directory(tmp_path / "b") as other:
        assert other != place
    assert (place / "activations" / "half").exists()
    process.communicate("")
    assert process.returncode != 0  # the name is taken now
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_a_single_file_is_left_once_at_most(tmp_path):
    left = tmp_path / ".a.json.0.tmp"
    left.write_text("half")
    atomic_write(tmp_path / "a.json", "whole")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    left.write_text("being written")
    with open(left) as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        atomic_write(tmp_path / "a.json", "new")
    assert left.read_text() == "being written"
    assert (tmp_path / "a.json").read_text() == "new"


def test_who_loses_the_place_before_it_is_locked_makes_another(tmp_path):
    made = []

    def make(place: Path) -> None:
        place.mkdir()
        made.append(place)
        if len(made) < 3:
            place.rmdir()  # as another process does that takes it for abandoned

    with _unfinished.unfinished(tmp_path / "b", make) as place:
        assert place.is_dir()
    assert len(made) == 3


def test_without_locks_nothing_is_taken_for_abandoned(tmp_path, monkeypatch):
    left = leave(tmp_path / "b")

    def no_locks(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(_unfinished.fcntl, "flock", no_locks)
    with atomic_directory(tmp_path / "b", overwrite=True):
        pass
    with atomic_directory(tmp_path / "b", overwrite=True):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"b", left.name}


@pytest.mark.parametrize("name", ["x" * 255, "漢" * 85])
def test_long_names(tmp_path, name):
    atomic_write(tmp_path / name, "a")
    with atomic_directory(tmp_path / "d" / name):
        pass
    assert [path.name for path in (tmp_path / "d").iterdir()] == [name]


@pytest.mark.parametrize("name", [".b.0.tmp", ".b.f0c0cdde8538.tmp"])
def test_compress_bundles_removes_what_has_been_quiet_for_a_day(tmp_path, name):
    record(tmp_path / "b", 1)
    left, files = tmp_path / name, tmp_path / ".mine"
    for place in (left, files):
        place.mkdir()
        (place / ".spool").write_bytes(b"x")
    list(compress_bundles(tmp_path, timedelta(days=90), dry_run=True))
    list(compress_bundles(tmp_path, timedelta(days=90)))
    assert left.exists()
    for place in (left / ".spool", left, files):
        os.utime(place, (0, 0))
    list(compress_bundles(tmp_path / "b", timedelta(days=90)))  # the bundle alone
    assert left.exists()
    list(compress_bundles(tmp_path, timedelta(days=90)))
    assert {path.name for path in tmp_path.iterdir()} == {"b", ".mine"}
