"""Results, reports and whatever else is one file: encrypted under the name that was asked for, read either way."""

from __future__ import annotations

import base64

import oracle
import pytest
from click.testing import CliRunner

from model_forensics import report
from model_forensics.cli.main import main
from model_forensics.demo import data_directory
from model_forensics.errors import CiphertextError, EncryptionKeyError, ResultsError, UnsafeFileError, UsageError
from model_forensics.files import is_protected, read_protected, write_protected
from tests.encryption.conftest import SECRET

TEXT = base64.b64encode(SECRET).decode()
READ = {"role": "cache/1", "max_bytes": 1000, "error": ResultsError}


@pytest.mark.parametrize("content", [b"", b"{}", "é {}", bytes(range(256)) * 3])
@pytest.mark.parametrize("with_key", [False, True])
def test_round_trip(tmp_path, use, key, content, with_key):
    use(key if with_key else None)
    path = tmp_path / "a file"
    assert write_protected(path, content, role="cache/1") is with_key
    stored = content.encode() if isinstance(content, str) else content
    assert read_protected(path, **READ) == stored
    assert is_protected(path, error=ResultsError) is with_key
    assert (path.read_bytes() == stored) is not with_key
    if with_key:
        assert oracle.decrypt(SECRET, path.read_bytes(), b"cache/1") == stored


def test_what_does_not_fit_is_refused(tmp_path, use, key, other):
    path = tmp_path / "file"
    use(key)
    write_protected(path, b"x" * 1001, role="cache/1")
    with pytest.raises(ResultsError, match="1,001 bytes"):
        read_protected(path, **READ)
    write_protected(path, b"x" * 1000, role="cache/1")
    assert len(read_protected(path, **READ)) == 1000
    with pytest.raises(EncryptionKeyError, match="cache/2"):
        read_protected(path, **{**READ, "role": "cache/2"})
    use(other)
    with pytest.raises(EncryptionKeyError, match="another key"):
        read_protected(path, **READ)
    use(None)
    with pytest.raises(EncryptionKeyError, match="is not set"):
        read_protected(path, **READ)
    with pytest.raises(UsageError, match="begins with"):
        write_protected(path, b"(never", role="cache/1")
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(UnsafeFileError):
        read_protected(tmp_path / "link", **READ)
    with pytest.raises(ResultsError, match="missing"):
        read_protected(tmp_path / "nothing", **READ)
    use(key)
    path.write_bytes(b"(nothing that was encrypted")
    with pytest.raises(CiphertextError, match="truncated"):
        read_protected(path, **READ)


def test_overwriting_is_asked_for(tmp_path, use, key):
    use(key)
    write_protected(tmp_path / "file", b"1", role="cache/1")
    with pytest.raises(UsageError, match="exists"):
        write_protected(tmp_path / "file", b"2", role="cache/1", overwrite=False)
    assert read_protected(tmp_path / "file", **READ) == b"1"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a command in an empty directory, with this key or without one."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments, key=TEXT, code=0):
        environment = {"MODEL_FORENSICS_ENCRYPTION_KEY": key, "MODEL_FORENSICS_OLD_ENCRYPTION_KEY": None}
        done = CliRunner().invoke(main, [str(argument) for argument in arguments], env=environment)
        assert done.exit_code == code, done.output
        for form in (TEXT, TEXT.rstrip("="), SECRET.hex(), repr(SECRET)[2:-1]):
            assert form not in done.output
        return done

    return call


def test_the_commands_from_end_to_end(tmp_path, run):
    """Forensics of the demo against a baseline: with a key all that is written is encrypted, and is read again."""
    with data_directory() as data:
        run("build-baseline", data / "benign", "--output", "baseline")
        assert sorted(file.name for file in (tmp_path / "baseline").iterdir()) == [
            "baseline.json.enc",
            "baseline.safetensors.enc",
        ]
        arguments = ("analyze", data / "incident", "--baseline", "baseline", "--forensics-only", "--output")
        run(*arguments, "r.json")
        run(*arguments, "x.json", key=None, code=3)
    for name in ("r.json", "r.html"):
        assert (tmp_path / name).read_bytes().startswith(b"(")
    assert not (tmp_path / "x.json").exists()
    done = run("report", "r.json", "--output", "sealed.html")
    assert "--decrypt" in done.output
    assert (tmp_path / "sealed.html").read_bytes().startswith(b"(")
    run("report", "r.json", "--decrypt", "--output", "plain.html")
    page = (tmp_path / "plain.html").read_text()
    assert page.startswith("<!DOCTYPE html>")
    sealed = (tmp_path / "sealed.html").read_bytes()
    assert oracle.decrypt(SECRET, sealed, report.REPORT_ROLE.encode()).decode() == page
    results = oracle.decrypt(SECRET, (tmp_path / "r.json").read_bytes(), report.RESULTS_ROLE.encode()).decode()
    for form in (TEXT, SECRET.hex()):
        assert form not in page + results
        for log in tmp_path.rglob("*.log*"):
            assert form not in log.read_text()
    assert "is not set" in run("report", "r.json", "--output", "no.html", key=None, code=3).output
    wrong = base64.b64encode(bytes(32)).decode()
    assert "another key" in run("report", "r.json", "--output", "no.html", key=wrong, code=3).output
    malformed = run("report", "r.json", "--output", "no.html", key=TEXT[:-4], code=3).output
    assert "MODEL_FORENSICS_ENCRYPTION_KEY: " in malformed
    assert TEXT[:12] not in malformed


def test_an_internal_error_shows_no_key(run, monkeypatch):
    """Its traceback goes to the terminal, with the lines of code and without what they held."""

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(report, "read_json_result", broken)
    assert "internal error" in run("report", "r.json", code=5).output


def test_a_malformed_key_is_refused_before_the_work(run, monkeypatch):
    """Not after hours, when the result is to be written; `info` says it too, and does not end."""
    malformed = TEXT[:-4]
    with data_directory() as data:
        done = run("analyze", data / "incident", "--output", "r.json", key=malformed, code=3)
    assert "MODEL_FORENSICS_ENCRYPTION_KEY: base64 of 30 bytes" in done.output
    done = run("info", key=malformed)
    assert "health: broken" in done.output
    assert "base64 of 30 bytes" in done.output
    assert malformed[:12] not in done.output


@pytest.mark.parametrize("with_key", [False, True])
def test_the_last_words_of_a_worker(use, key, with_key):
    """They are kept in a ledger that is not encrypted: no text of unforeseen errors, which may quote content."""
    from model_forensics.batch.worker import _last_words

    use(key if with_key else None)
    said = _last_words(KeyError("what somebody typed"))
    assert said.startswith("KeyError")
    assert ("typed" in said) is not with_key
