"""The cache: right or a miss, whatever is done to it by other processes, kills, full disks and flipped bits."""

from __future__ import annotations

import logging
import os
import random
import resource
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import pytest

from model_forensics.errors import UsageError
from model_forensics.store import Cache, cache_key
from tests.store.processes import finish, kill_while_it_works, start

LARGE = 10_000_000


def key(number: object) -> str:
    return cache_key("test", number=number)


def value(number: int, size: int = 1000) -> bytes:
    """Some bytes that no other number has."""
    return random.Random(number).randbytes(size)


@pytest.fixture
def cache(tmp_path) -> Cache:
    return Cache(tmp_path / "ein Ort für Ergebnisse", LARGE)


def entries(cache: Cache) -> list[Path]:
    return [path for path in (cache.directory / "entries").rglob("*") if path.is_file()]


def taken(cache: Cache) -> int:
    return sum(path.stat().st_size for path in entries(cache))


def tick(cache: Cache) -> None:
    """Sets what was used so far apart from what is used next; file systems may stamp times coarsely."""
    for path in entries(cache):
        found = path.stat()
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns - 10**9))


def test_what_was_put_comes_back_and_nothing_else(cache):
    assert cache.get(key(1)) is None
    assert not cache.directory.exists()
    assert cache.put(key(1), value(1))
    assert cache.put(key(2), b"")
    assert cache.get(key(1)) == value(1)
    assert cache.get(key(2)) == b""
    assert cache.get(key(3)) is None
    assert Cache(cache.directory, LARGE).get(key(1)) == value(1)


def test_every_part_of_a_key_counts_and_their_order_does_not():
    assert cache_key("test", a=1, b=[2]) == cache_key("test", b=[2], a=1)
    made = [cache_key(*kind, **parts) for kind in (["test"], ["other"]) for parts in ({"a": 1}, {"a": 2}, {"b": 1})]
    assert len(set(made)) == len(made)


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "a" * 63, "A" * 64, "a" * 64 + "\n"])
def test_only_keys_are_names(cache, name):
    for use in (lambda: cache.get(name), lambda: cache.put(name, b"")):
        with pytest.raises(UsageError, match="no key"):
            use()


def test_a_cache_without_room_is_refused(tmp_path):
    with pytest.raises(UsageError, match="a cache of 0 bytes"):
        Cache(tmp_path, 0)


def test_every_flipped_byte_and_every_length_is_a_miss_and_goes(cache):
    cache.put(key(1), value(1, 40))
    (path,) = entries(cache)
    whole = path.read_bytes()
    damaged = [whole[:length] for length in range(len(whole))]
    damaged += [whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :] for place in range(len(whole))]
    for content in [*damaged, whole + b"x"]:
        path.write_bytes(content)
        assert cache.get(key(1)) is None
        assert not path.exists()
    cache.put(key(1), value(1, 40))
    assert cache.get(key(1)) == value(1, 40)


def test_an_entry_under_another_name_is_a_miss(cache):
    cache.put(key(1), value(1))
    (path,) = entries(cache)
    other = cache.directory / "entries" / key(2)[:2] / key(2)
    other.parent.mkdir(exist_ok=True)
    path.rename(other)
    assert cache.get(key(2)) is None


def test_links_are_not_followed(cache, tmp_path):
    cache.put(key(1), value(1))
    (path,) = entries(cache)
    moved = tmp_path / "elsewhere"
    path.rename(moved)
    path.symlink_to(moved)
    assert cache.get(key(1)) is None
    assert moved.exists()


def test_the_bound_holds_and_what_was_used_last_stays(tmp_path):
    cache = Cache(tmp_path, 12_000)
    for number in range(30):
        assert cache.put(key(number), value(number))
        assert cache.get(key(0)) == value(0), "used all the time"
        tick(cache)
        assert taken(cache) <= 12_000
    assert cache.get(key(29)) == value(29)
    assert cache.get(key(1)) is None


def test_random_operations_agree_with_a_model(tmp_path):
    """An entry that is there is the last one put; the bound holds; only what was used least recently may be missing."""
    limit, size = 20_000, 1500
    for seed in range(5):
        rng = random.Random(seed)
        cache = Cache(tmp_path / str(seed), limit)
        model: OrderedDict[int, bytes] = OrderedDict()
        for step in range(150):
            number = rng.randrange(25)
            if rng.random() < 0.1:
                cache = Cache(cache.directory, limit)  # another process
            if rng.random() < 0.5:
                model[number] = value(1000 * number + step, rng.randrange(size))
                model.move_to_end(number)
                assert cache.put(key(number), model[number])
            else:
                found = cache.get(key(number))
                assert found in (None, model.get(number))
                if found is not None:
                    model.move_to_end(number)
            tick(cache)
            assert taken(cache) <= limit
            recent = list(model)[-4:]
            assert all(len(path.name) == 64 for path in entries(cache))
            names = {path.name for path in entries(cache)}
            assert {key(number) for number in recent} <= names


def test_what_is_larger_than_the_cache_is_not_kept_and_sends_nothing_away(tmp_path, caplog):
    cache = Cache(tmp_path, 5000)
    cache.put(key(1), value(1))
    with caplog.at_level(logging.WARNING):
        assert not cache.put(key(2), value(2, 6000))
    assert "more than cache.size allows" in caplog.text
    assert cache.get(key(1)) == value(1)
    assert not list((tmp_path / "staging").iterdir())


@pytest.mark.parametrize("content", [b"", b"nonsense", b"-5", None])
def test_a_lost_count_is_made_again(tmp_path, content):
    cache = Cache(tmp_path, 12_000)
    for number in range(20):
        cache.put(key(number), value(number))
        if content is None:
            (tmp_path / "size").unlink(missing_ok=True)
        else:
            (tmp_path / "size").write_bytes(content)
        if content == b"-5":
            cache = Cache(tmp_path, 12_000)  # every process counts before its first entry
        assert taken(cache) <= 12_000


def test_a_directory_that_cannot_be_made_is_a_warning_and_no_failure(tmp_path, caplog):
    (tmp_path / "file").touch()
    cache = Cache(tmp_path / "file" / "cache", LARGE)
    assert cache.get(key(1)) is None
    with caplog.at_level(logging.WARNING):
        assert not cache.put(key(1), value(1))
    assert "nothing was kept in the cache" in caplog.text


def test_a_writer_that_was_stopped_delays_others_for_a_while_only(cache, caplog):
    cache.put(key(1), value(1))
    program = """
import fcntl, os, sys
lock = os.open(sys.argv[1], os.O_RDWR)
fcntl.flock(lock, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""
    command = [sys.executable, "-c", program, str(cache.directory / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        hasty = Cache(cache.directory, LARGE, patience=0.05)
        with caplog.at_level(logging.WARNING):
            assert not hasty.put(key(2), value(2))
        assert hasty.get(key(1)) == value(1)
        holder.communicate()
    assert hasty.put(key(2), value(2))


def test_a_full_disk_is_a_warning_and_leaves_nothing_behind(cache):
    """A limit on the size of files stands for the disk."""
    cache.put(key(1), value(1))
    program = """
import logging, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
logging.basicConfig(stream=sys.stdout)
from model_forensics.store import Cache
print(Cache(sys.argv[1], 10_000_000).put(sys.argv[2], b"x" * 5000))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(cache.directory), key(2)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000)),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "nothing was kept in the cache" in done.stdout
    assert done.stdout.strip().endswith("False")
    assert [path.name for path in entries(cache)] == [key(1)]
    assert not list((cache.directory / "staging").iterdir())


@pytest.mark.parametrize("step", ["write_protected", "_set_total", "replace"])
def test_an_error_at_any_step_keeps_the_old_state(cache, monkeypatch, step):
    import model_forensics.store.cache as module

    cache.put(key(1), value(1))

    def broken(*arguments: object, **named: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(cache if step == "_set_total" else module.os if step == "replace" else module, step, broken)
        assert not cache.put(key(1), value(2))
    assert cache.get(key(1)) == value(1)
    assert cache.put(key(1), value(3))
    assert cache.get(key(1)) == value(3)
    assert not list((cache.directory / "staging").iterdir())


PROGRAM = """
import random, sys
from model_forensics.store import Cache, cache_key
directory, seed, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
cache, rng = Cache(directory, 300_000), random.Random(seed)
for step in range(count):
    number = rng.randrange(40)
    expected = random.Random(number).randbytes(20_000)
    found = cache.get(cache_key("test", number=number))
    assert found in (None, expected), number
    if found is None:
        assert cache.put(cache_key("test", number=number), expected)
    print(step, flush=True)
"""


def test_many_processes_share_one_cache_within_its_bound(tmp_path):
    finish([start(PROGRAM, tmp_path, seed, 60) for seed in range(6)])
    assert taken(Cache(tmp_path, 300_000)) <= 300_000
    assert not list((tmp_path / "staging").iterdir())


def test_killed_writers_leave_whole_entries_and_no_growing_garbage(tmp_path):
    for seed in range(12):
        kill_while_it_works(PROGRAM, tmp_path, seed, 100_000, rounds=1, longest=0.05)
        assert len(list((tmp_path / "staging").iterdir())) <= 2
    cache = Cache(tmp_path, 300_000)
    for number in range(40):
        assert cache.get(key(number)) in (None, random.Random(number).randbytes(20_000))
    assert cache.put(key("after"), b"x")
    assert taken(cache) <= 300_000
    assert not list((tmp_path / "staging").iterdir())


def test_entries_are_encrypted_where_there_is_a_key(cache, monkeypatch):
    from base64 import b64encode

    from model_forensics.files import KEY_VARIABLE

    cache.put(key(0), b"plain")
    monkeypatch.setenv(KEY_VARIABLE, b64encode(b"k" * 32).decode())
    assert cache.get(key(0)) == b"plain"
    cache.put(key(1), b"private" * 10)
    assert cache.get(key(1)) == b"private" * 10
    assert b"private" not in b"".join(path.read_bytes() for path in entries(cache))
    monkeypatch.setenv(KEY_VARIABLE, b64encode(b"o" * 32).decode())
    assert cache.get(key(1)) is None
    monkeypatch.setenv(KEY_VARIABLE, b64encode(b"k" * 32).decode())
    assert cache.get(key(1)) == b"private" * 10, "another key's entry is a miss, and stays"
