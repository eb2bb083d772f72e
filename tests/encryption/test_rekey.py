"""Changing keys: everything under a directory, each item proven, whole at every moment, and the same call goes on."""

from __future__ import annotations

import base64
import os
import shutil
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from golden_writer import write_golden

from model_forensics.bundle import load_bundle
from model_forensics.cf import Baseline, fit_baseline
from model_forensics.cli.main import main
from model_forensics.config import ForensicsConfig
from model_forensics.demo import data_directory
from model_forensics.errors import EncryptionKeyError, InputRefused, ResultsError, StorageError, UsageError
from model_forensics.files import (
    KEY_VARIABLE,
    OLD_KEY_VARIABLE,
    EncryptionKey,
    is_protected,
    read_protected,
    write_protected,
)
from model_forensics.rekey import Keys, containers, rekey_directory
from model_forensics.report import REPORT_ROLE, RESULTS_ROLE
from tests.kill_points import COMPILER, KillPoints, compile_shim

RESULTS = b'{\n  "schema_version": "1.0",\n  "bundle_id": "x"\n}\n'
REPORT = b'<!DOCTYPE html>\n<meta charset="utf-8">\n<meta name="generator" content="model-forensics">\n'
READ = {"max_bytes": 1 << 20, "error": ResultsError}


@pytest.fixture(scope="module")
def fitted() -> Baseline:
    with data_directory() as data:
        from model_forensics.bundle import load_bundles

        return fit_baseline(load_bundles(data / "benign"), ForensicsConfig())


@pytest.fixture
def place(tmp_path, fitted) -> Path:
    """A directory with one of everything, plain; and with what is not to be touched."""
    root = tmp_path / "a place é"
    write_golden(root / "bundles" / "one")
    write_golden(root / "bundles" / "two", codec="arithmetic")
    fitted.save(root / "baseline")
    write_protected(root / "results" / "r.json", RESULTS, role=RESULTS_ROLE)
    write_protected(root / "results" / "r.html", REPORT, role=REPORT_ROLE)
    (root / "model").mkdir()
    (root / "model" / "config.json").write_text('{"architectures": []}')
    (root / "model" / "page.html").write_text("<html></html>")
    (root / ".hidden").mkdir()
    (root / ".hidden" / "r.json").write_bytes(RESULTS)
    (root / "link").symlink_to(root / "bundles" / "one")
    return root


BUNDLES = (("one", "none"), ("two", "arithmetic"))
ITEMS = ["baseline", "bundles/one", "bundles/two", "results/r.html", "results/r.json"]


def check(root: Path, key: EncryptionKey | None, use, fitted, bundles=BUNDLES) -> None:
    """Everything is there, whole, and stored with this key."""
    use(key)
    for name, codec in bundles:
        bundle = load_bundle(root / "bundles" / name)
        assert bundle.manifest.codec == codec
        assert (bundle.manifest.encryption == "none") is (key is None)
        assert bundle.bundle_id == "golden"
    assert Baseline.load(root / "baseline").baseline_id == fitted.baseline_id
    assert (root / "baseline" / "baseline.json.enc").exists() is (key is not None)
    for name, content, role in (("r.json", RESULTS, RESULTS_ROLE), ("r.html", REPORT, REPORT_ROLE)):
        path = root / "results" / name
        assert read_protected(path, role=role, **READ) == content
        assert is_protected(path, error=ResultsError) is (key is not None)
    assert (root / "model" / "config.json").read_text() == '{"architectures": []}'
    assert (root / "model" / "page.html").read_text() == "<html></html>"
    assert (root / ".hidden" / "r.json").read_bytes() == RESULTS
    assert not (root / ".rekey").exists()


def outcomes(root: Path, old: EncryptionKey | None, new: EncryptionKey | None) -> list[str]:
    found = list(rekey_directory(root, Keys(old, new)))
    assert [str(Path(item.path).relative_to(root.resolve())) for item in found] == ITEMS
    return [item.outcome for item in found]


def test_there_and_back(place, key, other, use, fitted):
    digest = load_bundle(place / "bundles" / "one").content_digest
    assert outcomes(place, None, key) == ["rewritten"] * 5
    check(place, key, use, fitted)
    assert outcomes(place, None, key) == ["unchanged"] * 5
    assert outcomes(place, key, other) == ["rewritten"] * 5
    check(place, other, use, fitted)
    assert load_bundle(place / "bundles" / "one").content_digest == digest
    assert outcomes(place, other, None) == ["rewritten"] * 5
    check(place, None, use, fitted)
    golden = Path(__file__).parent.parent / "bundle" / "golden"
    for file in (file for file in golden.rglob("*") if file.is_file()):
        assert (place / "bundles" / "one" / file.relative_to(golden)).read_bytes() == file.read_bytes()


def test_a_half_changed_directory_is_finished(place, key, other, use, fitted):
    outcomes(place, None, key)
    list(rekey_directory(place / "bundles" / "one", Keys(key, other)))
    assert outcomes(place, key, other) == ["rewritten", "unchanged", "rewritten", "rewritten", "rewritten"]
    check(place, other, use, fitted)


def test_permissions_and_times_stay(place, key):
    file = place / "results" / "r.json"
    file.chmod(0o640)
    os.utime(file, (1, 2))
    (place / "bundles" / "one").chmod(0o750)
    os.utime(place / "bundles" / "one", (1, 2))
    outcomes(place, None, key)
    assert (file.stat().st_mode & 0o777, file.stat().st_mtime) == (0o640, 2)
    bundle = (place / "bundles" / "one").stat()
    assert (bundle.st_mode & 0o777, bundle.st_mtime) == (0o750, 2)


def test_what_cannot_be_opened_is_named_and_the_rest_goes_on(place, key, other, use):
    third = EncryptionKey(bytes(range(1, 33)))
    list(rekey_directory(place / "bundles" / "one", Keys(None, third)))
    shard = place / "bundles" / "two" / "samples.jsonl"
    shard.write_bytes(shard.read_bytes().replace(b"first", b"fIrst"))
    use(third)
    write_protected(place / "results" / "r.json", RESULTS, role=RESULTS_ROLE)
    before = {file: file.read_bytes() for file in (place / "bundles").rglob("*") if file.is_file()}
    found = {Path(item.path).name: item for item in rekey_directory(place, Keys(other, key))}
    assert {name for name, item in found.items() if item.outcome == "refused"} == {"one", "two", "r.json"}
    assert "another key than the old and the new one" in found["one"].reason
    assert "digest" in found["two"].reason
    assert {file: file.read_bytes() for file in (place / "bundles").rglob("*") if file.is_file()} == before
    assert not (place / ".rekey").exists()


def test_what_does_not_read_back_keeps_the_original(place, key, use, fitted, monkeypatch):
    monkeypatch.setattr(containers, "sync_tree", lambda root: next(root.rglob("out*")).write_bytes(b"x" * 99))
    with pytest.raises(StorageError, match="does not read back"):
        list(rekey_directory(place / "bundles", Keys(None, key)))
    monkeypatch.undo()
    check(place, None, use, fitted)


def test_one_at_a_time(place, key):
    running = rekey_directory(place, Keys(None, key))
    next(running)
    with pytest.raises(StorageError, match="another rekey"):
        next(rekey_directory(place, Keys(None, key)))
    assert len(list(running)) == 4


def test_where_names_cannot_be_exchanged(place, key, use, fitted, monkeypatch):
    """Two steps; a kill between them leaves the bundle aside, and the next run puts it back."""
    from model_forensics.files import _exchange

    monkeypatch.setattr(_exchange, "exchanged", lambda *_: False)
    rename = os.rename
    monkeypatch.setattr(_exchange.os, "rename", lambda a, b: rename(a, b) if str(b).endswith("aside") else os._exit(9))
    pid = os.fork()
    if not pid:
        list(rekey_directory(place / "bundles", Keys(None, key)))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    assert not (place / "bundles" / "one").exists()
    monkeypatch.setattr(_exchange.os, "rename", rename)
    assert [item.outcome for item in rekey_directory(place / "bundles", Keys(None, key))] == ["rewritten"] * 2
    outcomes(place, None, key)
    check(place, key, use, fitted)


@pytest.mark.slow
@pytest.mark.skipif(COMPILER is None, reason="needs a C compiler")
def test_killed_at_any_call(place, key, other, use, fitted, tmp_path_factory):
    """Before, amid and after every call that changes the disk, one item of each kind: nothing is lost or half there."""
    shim = compile_shim(tmp_path_factory.mktemp("shim"))
    shutil.rmtree(place / "bundles" / "two")
    outcomes_of = lambda: {item.outcome for item in rekey_directory(work, Keys(key, other))}  # noqa: E731
    list(rekey_directory(place, Keys(None, key)))
    work = tmp_path_factory.mktemp("work") / "p"
    code = "import sys; from model_forensics.rekey import *; list(rekey_directory(sys.argv[1], Keys.of_process()))"
    environment = {
        OLD_KEY_VARIABLE: base64.b64encode(key.secret).decode(),
        KEY_VARIABLE: base64.b64encode(other.secret).decode(),
    }

    def run(**options):
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(place, work, symlinks=True)
        points = KillPoints(shim, work)
        return points.run([sys.executable, "-c", code, work], environment=environment, **options)

    calls = run().calls
    assert calls > 60
    for at in range(1, calls + 1):
        assert run(at=at, action=("before", "torn", "after")[at % 3]).killed
        for item in ("bundles/one", "baseline", "results/r.json"):
            assert (work / item).exists(), f"{item} is gone after a kill at call {at}"
        for one in (key, other):
            use(one)
            try:
                assert load_bundle(work / "bundles" / "one").bundle_id == "golden"
                break
            except EncryptionKeyError:
                continue
        else:
            pytest.fail(f"neither key opens the bundle after a kill at call {at}")
        assert outcomes_of() <= {"rewritten", "unchanged"}
        check(work, other, use, fitted, BUNDLES[:1])


def test_the_command(place, key, other, use, fitted, monkeypatch):
    monkeypatch.chdir(place.parent)

    def run(*arguments, new=None, old=None, code=0):
        texts = {
            name: None if one is None else base64.b64encode(one.secret).decode()
            for name, one in ((KEY_VARIABLE, new), (OLD_KEY_VARIABLE, old))
        }
        done = CliRunner().invoke(main, ["rekey", *arguments], env=texts)
        assert done.exit_code == code, done.output
        for text in texts.values():
            assert text is None or text not in done.output
        return done.output

    assert "no key" in run(str(place), code=2)
    assert "5 rewritten, 0 unchanged, 0 refused" in run(str(place), new=key)
    check(place, key, use, fitted)
    use(None)
    assert "5 refused" in run(str(place), new=other, code=3)
    assert "5 rewritten" in run(str(place), new=other, old=key)
    assert '"outcome": "unchanged"' in run(str(place), "--format", "json", new=other, old=key)
    assert "5 rewritten" in run(str(place), "--decrypt", new=other)
    check(place, None, use, fitted)
    with pytest.raises(UsageError):
        list(rekey_directory(place / "nothing", Keys(None, key)))
    assert issubclass(EncryptionKeyError, InputRefused)


def test_documents_are_known_by_what_they_hold(tmp_path, key, other, use):
    """Whatever their names; each keeps its role, and what other programs wrote is left alone."""
    from model_forensics.batch.summary import SUMMARY_ROLE

    roles = {"summary.json": SUMMARY_ROLE, "r.json": RESULTS_ROLE, "results": RESULTS_ROLE, "page.txt": REPORT_ROLE}
    contents = {
        "summary.json": b'{\n  "schema_version": "1.0",\n  "directory": "x"\n}\n',
        "r.json": RESULTS,
        "results": RESULTS,
        "page.txt": REPORT,
    }
    others = {
        "package.json": b'{"name": "x", "schema_version": "1.0", "bundle_id": "x"}',
        "list": b'{"schema_version": 2, "bundle_id": "x"}',
        "notes": b"(nothing that was encrypted, but of some length, so that it could have been) " * 9,
    }
    for name, content in {**contents, **others}.items():
        (tmp_path / name).write_bytes(content)
    for old, new in ((None, key), (key, other), (other, None)):
        found = list(rekey_directory(tmp_path, Keys(old, new)))
        assert {Path(item.path).name: item.outcome for item in found} == dict.fromkeys(roles, "rewritten")
        use(new)
        for name, role in roles.items():
            assert is_protected(tmp_path / name, error=ResultsError) is (new is not None)
            assert read_protected(tmp_path / name, role=role, **READ) == contents[name]
        assert all((tmp_path / name).read_bytes() == content for name, content in others.items())


def test_an_unfinished_change_is_undone(place, key, other, use, fitted, monkeypatch):
    """`--decrypt` opens what has the old key and what has the new one."""
    outcomes(place, None, key)
    list(rekey_directory(place / "bundles" / "one", Keys(key, other)))
    texts = [base64.b64encode(one.secret).decode() for one in (key, other)]
    monkeypatch.setenv(OLD_KEY_VARIABLE, texts[0])
    monkeypatch.setenv(KEY_VARIABLE, texts[1])
    done = CliRunner().invoke(main, ["rekey", str(place), "--decrypt"])
    assert done.exit_code == 0, done.output
    check(place, None, use, fitted)


def test_a_reader_with_either_key_is_told(place, key, other, use):
    """Amid a change of keys: what has the other key is refused by name, what has one's own is read."""
    outcomes(place, None, key)
    list(rekey_directory(place / "bundles" / "one", Keys(key, other)))
    for mine, readable, not_readable in ((key, "two", "one"), (other, "one", "two")):
        use(mine)
        assert load_bundle(place / "bundles" / readable).bundle_id == "golden"
        with pytest.raises(EncryptionKeyError, match=r"another key.*rekey"):
            load_bundle(place / "bundles" / not_readable)


def test_a_bundle_without_its_manifest_is_named(place, key, other):
    outcomes(place, None, key)
    (place / "bundles" / "one" / "manifest.json.enc").unlink()
    for new in (other, None):
        found = {Path(item.path).name: item for item in rekey_directory(place / "bundles", Keys(key, new))}
        assert found["one"].outcome == "refused"
        assert "manifest.json is missing" in found["one"].reason
