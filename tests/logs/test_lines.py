"""The form of log lines, what is kept out of them, and silence where nobody asked for them."""

from __future__ import annotations

import base64
import io
import json
import logging
import re
import subprocess
import sys

import pytest

from model_forensics import logs
from model_forensics.errors import StorageError

LINE = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO execution_time= \d+\.\d{6} memory_usage= (\d+\.\d|-) "
    r"bundle= inc-1 stage= search done"
)


@pytest.fixture
def written(tmp_path):
    """Runs something while lines go to a file; gives the lines."""

    def lines(work, **settings):
        with logs.configured(**{"level": "INFO", "file": tmp_path / "deep er" / "x.log", **settings}):
            work()
        return (tmp_path / "deep er" / "x.log").read_text().splitlines()

    return lines


def timed():
    with logs.timed("search", "inc-1"):
        pass


def test_the_columns_that_awk_counts(written, tmp_path):
    def work():
        timed()
        logs.LOGGER.warning("something else")
        logs.log_time("a stage", "a bundle", 1.5, "text")

    lines = written(work)
    assert LINE.fullmatch(lines[0])
    file = tmp_path / "deep er" / "x.log"
    shell = f"grep execution_time '{file}' | awk '{{print $5, $9, $11, $12}}'"
    printed = subprocess.run(shell, shell=True, capture_output=True, text=True, check=True).stdout.splitlines()
    seconds, *others = printed[0].split()
    assert float(seconds) >= 0
    assert others == ["inc-1", "search", "done"]
    assert printed[1] == "1.500000 a%20bundle a%20stage text"
    assert len(printed) == 2
    assert lines[1].endswith("WARNING something else")


def test_a_stage_that_fails_is_timed_too(written):
    def work():
        with pytest.raises(ZeroDivisionError), logs.timed("forensics"):
            raise ZeroDivisionError

    (line,) = written(work)
    assert "INFO execution_time= " in line
    assert line.endswith("bundle= - stage= forensics ended by ZeroDivisionError")


def test_a_record_is_one_line(written):
    def work():
        logs.LOGGER.info("a\nb\r\x1b[31m%s", "c\n2026-01-01 00:00:00,000 INFO forged")
        try:
            raise ValueError("two\nlines")
        except ValueError:
            logs.LOGGER.exception("failed")

    assert len(written(work)) == 2
    assert len([json.loads(line) for line in written(work, as_json=True)[2:]]) == 2


def test_json_lines(written):
    def work():
        timed()
        logs.LOGGER.error("für %s", "alle")

    first, second = (json.loads(line) for line in written(work, as_json=True))
    assert (first["stage"], first["bundle"], first["level"], first["text"]) == ("search", "inc-1", "INFO", "done")
    assert first["execution_time"] >= 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first["time"])
    assert second == {"time": second["time"], "level": "ERROR", "logger": "model_forensics", "text": "für alle"}


@pytest.mark.parametrize("as_json", [False, True])
def test_the_key_is_never_written(written, as_json):
    key = base64.b64encode(b"\xfb\xff" + bytes(range(30))).decode()
    safe = key.replace("+", "-").replace("/", "_")

    def work():
        logs.LOGGER.info("%s and %s", f"key={key}", [safe.rstrip("=")])
        try:
            raise ValueError(f"bad {key}")
        except ValueError:
            logs.LOGGER.exception("failed")
        logs.log_time(key, key, 1.0, key)

    text = "\n".join(written(work, as_json=as_json, secrets=lambda: [key]))
    assert key.rstrip("=") not in text
    assert safe.rstrip("=") not in text
    assert text.count("[hidden]") == 6


def test_an_empty_key_hides_nothing():
    assert logs.hidden("a=b", ["", "=", " "]) == "a=b"


def test_levels(written):
    def work():
        timed()
        logs.LOGGER.error("bad")

    assert len(written(work, level="ERROR")) == 1


def test_afterwards_everything_is_as_before(written):
    before = (list(logs.LOGGER.handlers), logs.LOGGER.level)
    written(timed)
    assert (list(logs.LOGGER.handlers), logs.LOGGER.level) == before


def test_memory_is_measured():
    measured = logs.resident_megabytes()
    assert measured is None or 1 < measured < 1e6


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path, tmp_path / "file" / "x.log"):
        with pytest.raises(StorageError) as caught, logs.configured(level="INFO", file=place):
            pass
        assert str(place) in str(caught.value)
        assert "log_file" in str(caught.value)


def test_a_full_disk_is_told_once_and_the_work_goes_on(tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device")

    with logs.configured(level="INFO", file=tmp_path / "x.log"):
        monkeypatch.setattr("concurrent_log_handler.ConcurrentRotatingFileHandler.do_write", full)
        timed()
        timed()
    told = capsys.readouterr().err
    assert told.count("log lines are lost") == 1
    assert "No space left" in told


def test_the_library_is_silent_until_it_is_configured():
    program = "from model_forensics import logs\nlogs.LOGGER.error('x')\nwith logs.timed('s'): pass\n"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_a_program_that_sets_logging_up_gets_the_lines():
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    root = logging.getLogger()
    root.addHandler(handler)
    logs.LOGGER.setLevel("INFO")
    try:
        timed()
    finally:
        root.removeHandler(handler)
        logs.LOGGER.setLevel(logging.NOTSET)
    assert stream.getvalue() == "done\n"
