"""Documents that belong together are there, all of them, or none."""

from __future__ import annotations

import base64
import errno
import os

import pytest

from model_forensics.errors import ResultsError, StorageError, UsageError
from model_forensics.files import Document, is_protected, write_together


@pytest.fixture
def pair(tmp_path):
    place = tmp_path / "ein Ort für beide"
    return [Document(place / "r.html", "<page>", "report"), Document(place / "r.json", "{}", "results")]


def contents(pair) -> list[str | None]:
    return [document.path.read_text() if document.path.exists() else None for document in pair]


def test_both_are_written_and_nothing_else(pair):
    write_together(pair, overwrite=False)
    assert contents(pair) == ["<page>", "{}"]
    assert {path.name for path in pair[0].path.parent.iterdir()} == {"r.html", "r.json"}


@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize("fails", [1, 2])
def test_on_a_full_disk_everything_is_as_it_was(pair, monkeypatch, overwrite, fails):
    if overwrite:
        write_together([document._replace(data="earlier") for document in pair])
    before = contents(pair)
    calls = []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == fails:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        write_together(pair, overwrite=overwrite)
    assert contents(pair) == before
    assert not list(pair[0].path.parent.glob(".*"))


def test_what_is_there_is_not_replaced_unasked(pair):
    for kept in pair:
        kept.path.parent.mkdir(exist_ok=True)
        kept.path.write_text("mine")
        with pytest.raises(UsageError, match="already exists"):
            write_together(pair, overwrite=False)
        assert [found for found in contents(pair) if found is not None] == ["mine"]
        kept.path.unlink()


def test_a_name_that_is_taken_meanwhile_stays_with_who_took_it(pair, monkeypatch):
    real = os.link

    def taken(source, target):
        if str(target).endswith("r.json"):
            pair[1].path.write_text("theirs")
        real(source, target)

    monkeypatch.setattr(os, "link", taken)
    with pytest.raises(UsageError, match="already exists"):
        write_together(pair, overwrite=False)
    assert contents(pair) == [None, "theirs"]


def test_both_are_encrypted_when_there_is_a_key(pair, monkeypatch):
    monkeypatch.setenv("MODEL_FORENSICS_ENCRYPTION_KEY", base64.b64encode(bytes(range(32))).decode())
    write_together(pair)
    assert all(is_protected(document.path, error=ResultsError) for document in pair)
