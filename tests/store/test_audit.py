"""The audit log: what was changed, removed or moved is found; what a kill leaves behind is not mistaken for that."""

from __future__ import annotations

import json
import os
import pwd
import resource
import subprocess
import sys

import pytest

from model_forensics.errors import AuditError, BundleDigestError, StorageError
from model_forensics.store import AuditLog, audited
from tests.store.processes import finish, kill_while_it_works, start


@pytest.fixture
def log(tmp_path) -> AuditLog:
    return AuditLog(tmp_path / "ein Ort für Prüfungen" / "audit.jsonl")


@pytest.fixture
def filled(log) -> AuditLog:
    for number in range(5):
        log.append({"event": "note", "number": number})
    return log


def lines(log: AuditLog) -> list[bytes]:
    return log.path.read_bytes().splitlines(keepends=True)


def put(log: AuditLog, kept: list[bytes]) -> None:
    log.path.write_bytes(b"".join(kept))


def test_every_line_says_who_what_when_and_how_it_ended(log):
    with audited(log.path, "analyze") as action:
        action.about("incident", "sha256:abc")
        action.about("baseline", None)
    started, ended = map(json.loads, lines(log))
    assert (started["event"], ended["event"], ended["outcome"], ended["error"]) == (
        "started",
        "finished",
        "success",
        None,
    )
    assert ended["digests"] == {"incident": "sha256:abc"}
    assert ended["command"] == started["command"] == "analyze"
    assert ended["run"] == started["run"]
    assert (ended["user"], ended["pid"]) == (pwd.getpwuid(os.getuid()).pw_name, os.getpid())
    assert started["at"] <= ended["at"]
    found = log.verify()
    assert (found.lines, found.unfinished, found.torn, found.last) == (2, 0, 0, ended["hash"])


@pytest.mark.parametrize(
    ("problem", "outcome"),
    [
        (BundleDigestError("bytes differ", cure="Copy it again"), "refused"),
        (KeyboardInterrupt(), "interrupted"),
        (ZeroDivisionError(), "failed"),
    ],
)
def test_what_goes_wrong_is_an_outcome_and_goes_on(log, problem, outcome):
    with pytest.raises(type(problem)), audited(log.path, "triage"):
        raise problem
    ended = json.loads(lines(log)[-1])
    assert (ended["outcome"], ended["error"]) == (outcome, type(problem).__name__)
    assert "bytes differ" not in log.path.read_text()


def test_without_a_log_nothing_is_written(tmp_path):
    with audited(None, "analyze") as action:
        action.about("incident", "sha256:abc")
    assert not list(tmp_path.iterdir())


def test_nothing_is_done_that_cannot_be_audited(tmp_path):
    (tmp_path / "file").touch()
    done = []
    with pytest.raises(StorageError), audited(tmp_path / "file" / "audit.jsonl", "analyze"):
        done.append(1)
    assert not done


def test_an_untouched_log_verifies_and_so_does_an_empty_one(filled, tmp_path):
    assert filled.verify().lines == 5
    (tmp_path / "empty").touch()
    assert AuditLog(tmp_path / "empty").verify().lines == 0


@pytest.mark.parametrize("removed", [0, 1, 2, 3])
def test_a_removed_line_is_named(filled, removed):
    kept = lines(filled)
    del kept[removed]
    put(filled, kept)
    with pytest.raises(AuditError, match=rf"line {removed + 1} was removed"):
        filled.verify()
    with pytest.raises(AuditError, match="lines are missing"):
        filled.append({"event": "note"})


@pytest.mark.parametrize("left", [0, 1, 4])
def test_lines_missing_at_the_end_are_found(filled, left):
    put(filled, lines(filled)[:left])
    with pytest.raises(AuditError, match=f"those after line {left} are missing"):
        filled.verify()


def test_a_last_line_that_was_cut_is_found(filled):
    filled.path.write_bytes(filled.path.read_bytes()[:-1])
    with pytest.raises(AuditError, match="line 5 was changed"):
        filled.verify()


def test_a_removed_line_whose_bytes_others_fill_is_found(filled):
    """The head knows how many lines there were, also where the size tells nothing."""
    kept = lines(filled)
    put(filled, [*kept[:-1], b"x" * (len(kept[-1]) - 1) + b"\n"])
    with pytest.raises(AuditError, match="line 5 was changed"):
        filled.verify()


@pytest.mark.parametrize("changed", range(5))
def test_a_changed_line_is_named(filled, changed):
    kept = lines(filled)
    kept[changed] = kept[changed].replace(b'"number":', b'"number": ')
    put(filled, kept)
    with pytest.raises(AuditError, match=rf"line {changed + 1} was changed"):
        filled.verify()


def test_every_flipped_byte_is_found(filled):
    content = filled.path.read_bytes()
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1
        filled.path.write_bytes(bytes(damaged))
        with pytest.raises(AuditError, match=r"line \d was (changed|removed)|moved or added|replaced"):
            filled.verify()


def test_lines_in_another_order_are_named(filled):
    kept = lines(filled)
    put(filled, [kept[0], kept[2], kept[1], *kept[3:]])
    with pytest.raises(AuditError, match="line 2 was removed"):
        filled.verify()
    put(filled, [*kept[:4], kept[3], kept[4]])
    with pytest.raises(AuditError, match="line 4 is again at line 5"):
        filled.verify()


def test_a_line_written_anew_with_a_fitting_hash_is_found_by_the_next_one(filled, tmp_path):
    forged = AuditLog(tmp_path / "forged.jsonl")
    for number in (0, 1, 99):
        forged.append({"event": "note", "number": number})
    kept = lines(filled)
    put(filled, [*kept[:2], lines(forged)[2], *kept[3:]])
    with pytest.raises(AuditError, match="line 4 does not follow line 3"):
        filled.verify()


def test_a_last_line_written_anew_is_found_by_the_head(filled, tmp_path):
    forged = AuditLog(tmp_path / "forged.jsonl")
    for number in (0, 1, 2, 3, 9):
        forged.append({"event": "note", "number": number})
    put(filled, lines(forged))
    with pytest.raises(AuditError, match="line 5 is not the one"):
        filled.verify()


def test_a_log_rewritten_with_its_head_is_found_by_an_earlier_hash(filled, tmp_path):
    known = filled.verify().last
    forged = AuditLog(tmp_path / "forged.jsonl")
    for number in range(7):
        forged.append({"event": "note", "number": number + 1})
    assert filled.append({"event": "note"})
    assert filled.verify(known=known).lines == 6
    assert forged.verify().lines == 7
    with pytest.raises(AuditError, match="rewritten"):
        forged.verify(known=known)


def test_without_its_head_a_log_cannot_be_judged(filled):
    filled.head_path.unlink()
    for use in (filled.verify, lambda: filled.append({"event": "note"})):
        with pytest.raises(AuditError, match="head is missing"):
            use()


def test_a_head_from_an_earlier_day_is_found(filled):
    old = filled.head_path.read_bytes()
    filled.append({"event": "note"})
    filled.append({"event": "note"})
    filled.head_path.write_bytes(old)
    for use in (filled.verify, lambda: filled.append({"event": "note"})):
        with pytest.raises(AuditError, match="not acknowledged"):
            use()


def test_a_line_torn_anywhere_is_no_tampering_and_the_log_goes_on(filled, tmp_path):
    whole, acknowledged = lines(filled), filled.head_path.read_bytes()
    filled.append({"event": "note", "number": "the one that is torn"})
    torn_line = lines(filled)[5]
    for length in range(1, len(torn_line) + 1):
        put(filled, [*whole, torn_line[:length]])
        filled.head_path.write_bytes(acknowledged)
        left = filled.verify()
        assert (left.lines, left.torn) == ((6, 0) if length == len(torn_line) else (5, length))
        filled.append({"event": "note", "number": "after"})
        assert filled.verify().lines == (7 if length >= len(torn_line) - 1 else 6)
        filled.append({"event": "note", "number": "and on"})
        damaged = filled.path.read_bytes().replace(torn_line[:length], torn_line[: length - 1] + b"~", 1)
        if 1 < length < len(torn_line) - 1:
            filled.path.write_bytes(damaged)
            with pytest.raises(AuditError):
                filled.verify()


def test_torn_again_while_it_goes_on(filled):
    """Each of several crashes in a row leaves a fragment, whole lines without a head between them."""
    for cut in (1, 7, 60, 100):
        before, acknowledged = filled.path.read_bytes(), filled.head_path.read_bytes()
        filled.append({"event": "note"})
        filled.path.write_bytes(filled.path.read_bytes()[: len(before) + cut])
        filled.head_path.write_bytes(acknowledged)
        assert filled.verify().torn
    filled.append({"event": "note"})
    assert (filled.verify().lines, filled.verify().torn) == (6, 0)


PROGRAM = """
import sys
from model_forensics.store import audited
path, count = sys.argv[1:]
for number in range(int(count)):
    with audited(path, "test") as action:
        action.about("number", str(number))
    print(number, flush=True)
"""


def test_several_processes_append_at_once(log):
    finish([start(PROGRAM, log.path, 15) for _ in range(4)])
    found = log.verify()
    assert (found.lines, found.unfinished) == (120, 0)


def test_killed_processes_leave_a_log_that_verifies_and_goes_on(log):
    said = kill_while_it_works(PROGRAM, log.path, 100_000, rounds=12, longest=0.05)
    found = log.verify()
    assert found.lines >= 2 * sum(map(len, said))
    assert found.unfinished <= 12
    log.append({"event": "note"})
    assert log.verify().torn == 0


def test_a_full_disk_is_named_and_what_was_written_counts_as_torn(filled):
    size = filled.path.stat().st_size
    program = """
import signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from model_forensics.errors import StorageError
from model_forensics.store import AuditLog
try:
    AuditLog(sys.argv[1]).append({"event": "note"})
except StorageError as error:
    print(error)
"""
    limit = size + 20
    done = subprocess.run(
        [sys.executable, "-c", program, str(filled.path)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "writing failed" in done.stdout
    assert (filled.verify().lines, filled.verify().torn) == (5, 20)
    filled.append({"event": "note"})
    assert filled.verify().lines == 6
