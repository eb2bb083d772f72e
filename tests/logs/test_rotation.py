"""Rotation loses no line, whoever writes and whoever renames."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from model_forensics import logs

WRITER = """
import sys
from pathlib import Path
from model_forensics import logs
name, lines, file = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
with logs.configured(level="INFO", file=file, max_bytes=4000, keep=100):
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(lines):
        logs.LOGGER.info("%s-%d", name, number)
"""
LINES = 300


def lines_of(file: Path) -> list[str]:
    files = [path for path in file.parent.iterdir() if path.name.startswith(file.name)]
    return [line.split()[-1] for path in files for line in path.read_text().splitlines()]


def test_several_processes_lose_no_line(tmp_path):
    file = tmp_path / "x.log"
    command = [sys.executable, "-c", WRITER]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    writers = [subprocess.Popen([*command, f"w{n}", str(LINES), str(file)], **pipes) for n in range(4)]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.communicate("go\n")
        assert writer.returncode == 0
    assert sorted(lines_of(file)) == sorted(f"w{n}-{number}" for n in range(4) for number in range(LINES))
    rotated = [path for path in tmp_path.iterdir() if path.name.startswith("x.log.")]
    assert len(rotated) >= 10
    assert all(path.stat().st_size < 4200 for path in rotated)


def test_renaming_by_another_program_is_noticed(tmp_path):
    file = tmp_path / "x.log"
    with logs.configured(level="INFO", file=file):
        logs.LOGGER.info("one")
        file.rename(tmp_path / "x.log.moved")
        logs.LOGGER.info("two")
        file.rename(tmp_path / "x.log.again")
        file.touch()
        logs.LOGGER.info("three")
    assert (tmp_path / "x.log.moved").read_text().endswith("one\n")
    assert (tmp_path / "x.log.again").read_text().endswith("two\n")
    assert file.read_text().endswith("three\n")


def test_only_so_many_are_kept(tmp_path):
    file = tmp_path / "x.log"
    with logs.configured(level="INFO", file=file, max_bytes=100, keep=2):
        for number in range(50):
            logs.LOGGER.info("a line of some length, number %d", number)
    assert {path.name for path in tmp_path.iterdir() if path.name.startswith("x")} == {"x.log", "x.log.1", "x.log.2"}
    assert file.read_text().endswith("number 49\n")
