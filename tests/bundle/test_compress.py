"""compress-bundles: lossless, proven before the original goes, and whole at every moment."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alike import same
from click.testing import CliRunner, Result

from model_forensics.bundle import BundleWriter, archive, compress, compress_bundles, load_bundle, workplace
from model_forensics.cli.main import main
from model_forensics.errors import BundleFormatError, StorageError
from model_forensics.files import _exchange

OLD = datetime(2020, 1, 2, tzinfo=UTC)


def record(path: Path, *, created_at: datetime = OLD, seed: int = 0, codec: str = "none") -> Path:
    random = np.random.default_rng(seed)
    with BundleWriter(path, kind="benign", created_at=created_at, codec=codec) as writer:  # type: ignore[arg-type]
        for _ in range(3):
            values = random.standard_normal((40, 64)).astype(np.float32)
            writer.add_sample(
                activations={"L0.mlp": values, "L0.attn": values.astype(np.float16)},
                inputs={"input_ids": np.arange(40)[None]},
                outputs={"logits": values[:1]},
            )
    return path


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["compress-bundles", *map(str, arguments)])


def outcomes(root: Path, **options: Any) -> dict[str, str]:
    return {Path(one.path).name: one.outcome for one in compress_bundles(root, timedelta(days=90), **options)}


def assert_same_content(one: Path, other: Path) -> None:
    first, second = load_bundle(one), load_bundle(other)
    assert first.content_digest == second.content_digest
    assert first.samples == second.samples
    for sample in range(len(first.samples)):
        for site in first.sites:
            assert same(first.raw(site, sample), second.raw(site, sample))


def test_old_bundles_are_compressed_and_hold_what_they_held(tmp_path: Path) -> None:
    root = tmp_path / "bündles with spaces"
    record(root / "old")
    record(root / "new", created_at=datetime.now(UTC))
    record(root / "coded", codec="arithmetic")
    kept = shutil.copytree(root, tmp_path / "kept")
    done = run(root, "--older-than", "90d", "--format", "json")
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert {Path(one["path"]).name: one["outcome"] for one in answer["bundles"]} == {
        "old": "compressed",
        "new": "too_young",
        "coded": "already_compressed",
    }
    assert answer["total"]["bytes_before"] == load_bundle(kept / "old").bytes
    assert answer["total"]["bytes_after"] == load_bundle(root / "old").bytes < load_bundle(kept / "old").bytes
    assert load_bundle(root / "old").manifest.codec == "arithmetic"
    assert_same_content(root / "old", kept / "old")
    for name in ("new", "coded"):
        assert files(root / name) == files(kept / name)
    assert sorted(path.name for path in root.iterdir()) == ["coded", "new", "old"]


def test_again_changes_nothing(tmp_path: Path) -> None:
    record(tmp_path / "b")
    assert outcomes(tmp_path) == {"b": "compressed"}
    before = files(tmp_path)
    assert outcomes(tmp_path) == {"b": "already_compressed"}
    assert files(tmp_path) == before


def test_it_is_what_the_writer_would_have_written(tmp_path: Path) -> None:
    record(tmp_path / "bundles" / "b")
    record(tmp_path / "b", codec="arithmetic")
    outcomes(tmp_path / "bundles")
    assert files(tmp_path / "bundles" / "b") == files(tmp_path / "b")


def test_a_single_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record(tmp_path / "b")
    record(tmp_path / "other")
    monkeypatch.chdir(tmp_path)
    assert run("b", "--older-than", "0d", "--quiet").exit_code == 0
    assert load_bundle("b").manifest.codec == "arithmetic"
    assert load_bundle("other").manifest.codec == "none"


def test_a_dry_run_changes_nothing(tmp_path: Path) -> None:
    record(tmp_path / "b")
    before = files(tmp_path)
    done = run(tmp_path, "--older-than", "90d", "--dry-run")
    assert "1 would compress" in done.stdout
    assert files(tmp_path) == before
    (would,) = compress_bundles(tmp_path, timedelta(0), dry_run=True)
    (did,) = compress_bundles(tmp_path, timedelta(0))
    assert (would.before, would.after) == (did.before, did.after)
    assert f"{did.before:,} bytes would become {did.after:,}" in done.stdout


def test_content_that_does_not_shrink_stays_plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record(tmp_path / "b")
    before = files(tmp_path)
    monkeypatch.setattr(compress, "encode_file", lambda plain, out, **_: out.write(plain.read_bytes() + b"x" * 99))
    for dry_run in (True, False):
        found = list(compress_bundles(tmp_path, timedelta(0), dry_run=dry_run))
        assert [(one.outcome, one.before) for one in found] == [("kept_plain", found[0].after)]
    assert files(tmp_path) == before
    assert "1 kept plain" in run(tmp_path, "--older-than", "0d").stdout


def test_modes_owners_and_times_stay(tmp_path: Path) -> None:
    bundle = record(tmp_path / "b")
    os.chmod(bundle / "activations" / "000.safetensors", 0o640)
    os.chmod(bundle, 0o750)
    if os.geteuid() == 0:
        for place in (bundle, *bundle.rglob("*")):
            os.chown(place, 1234, 2345)
    for place in (*bundle.rglob("*"), bundle):
        os.utime(place, ns=(10**18, 10**18 + 123456789))

    def metadata() -> dict[str, tuple[int, ...]]:
        places = [bundle, *bundle.rglob("*")]
        return {
            str(place.relative_to(bundle)).removesuffix(".mfa"): (
                stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, status.st_mtime_ns,
            )
            for place, status in ((place, place.stat()) for place in places)
        }  # fmt: skip

    before = metadata()
    assert outcomes(tmp_path) == {"b": "compressed"}
    assert metadata() == before


def test_refused_bundles_are_reported_and_the_others_follow(tmp_path: Path) -> None:
    record(tmp_path / "a")
    data = bytearray((tmp_path / "a" / "activations" / "000.safetensors").read_bytes())
    data[-1] ^= 1
    (tmp_path / "a" / "activations" / "000.safetensors").write_bytes(data)
    record(tmp_path / "b")
    before = files(tmp_path / "a")
    done = run(tmp_path, "--older-than", "90d")
    assert done.exit_code == 4
    assert "digest" in done.stderr
    assert "1 compressed, 1 refused" in done.stdout
    assert files(tmp_path / "a") == before
    assert run(tmp_path / "a", "--older-than", "90d").exit_code == 3


@pytest.mark.parametrize("age", ["", "90", "d", "-1d", "90 days", "1e9d"])
def test_ages_that_are_none(tmp_path: Path, age: str) -> None:
    assert run(tmp_path, "--older-than", age).exit_code == 2


def test_too_little_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record(tmp_path / "b")
    before = files(tmp_path)
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(compress.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(StorageError, match="1,000 bytes are free"):
        outcomes(tmp_path)
    assert outcomes(tmp_path, keep_going=True) == {"b": "refused"}
    assert files(tmp_path) == before
    assert os.listdir(tmp_path) == ["b"]


def test_what_does_not_read_back_is_not_put_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record(tmp_path / "b")
    record(tmp_path / "elsewhere" / "other", seed=1)
    before = files(tmp_path)
    load = compress.load_bundle
    other = tmp_path / "elsewhere" / "other"
    monkeypatch.setattr(compress, "load_bundle", lambda path: load(other if ".compress" in str(path) else path))
    with pytest.raises(StorageError, match="read back"):
        outcomes(tmp_path / "b")
    assert files(tmp_path) == before


def test_a_bundle_that_changes_meanwhile_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record(tmp_path / "b")

    def replaced(*_: object) -> None:
        record(tmp_path / "again", seed=2)
        shutil.rmtree(tmp_path / "b")
        (tmp_path / "again").rename(tmp_path / "b")

    monkeypatch.setattr(compress, "_verify", replaced)
    assert outcomes(tmp_path) == {"b": "refused"}
    record(tmp_path / "expected" / "b", seed=2)
    assert load_bundle(tmp_path / "b").manifest.files == load_bundle(tmp_path / "expected" / "b").manifest.files


def test_a_bundle_that_is_replaced_at_the_last_moment_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(tmp_path / "b")
    record(tmp_path / "elsewhere" / "b", seed=2)
    expected = files(tmp_path / "elsewhere" / "b")
    exchange = compress.replace_directory

    def late(new: Path, target: Path, aside: Path) -> Path:
        if (tmp_path / "elsewhere" / "b").exists():
            shutil.rmtree(target)
            (tmp_path / "elsewhere" / "b").rename(target)
        return exchange(new, target, aside)

    monkeypatch.setattr(compress, "replace_directory", late)
    assert outcomes(tmp_path / "b") == {"b": "refused"}
    assert files(tmp_path / "b") == expected


def test_only_one_run_at_a_time(tmp_path: Path) -> None:
    record(tmp_path / "b")
    with workplace.Workplace(tmp_path), pytest.raises(StorageError, match="another compress-bundles"):
        outcomes(tmp_path)
    assert outcomes(tmp_path) == {"b": "compressed"}


@pytest.fixture
def no_exchange(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(_exchange, "exchanged", lambda one, other: False)
    return


@pytest.mark.usefixtures("no_exchange")
def test_where_names_cannot_be_exchanged(tmp_path: Path) -> None:
    record(tmp_path / "b")
    kept = shutil.copytree(tmp_path / "b", tmp_path / "kept" / "b")
    assert outcomes(tmp_path / "b") == {"b": "compressed"}
    assert_same_content(tmp_path / "b", kept)
    assert sorted(os.listdir(tmp_path)) == ["b", "kept"]


@pytest.mark.usefixtures("no_exchange")
def test_a_failed_second_step_is_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record(tmp_path / "b")
    before = files(tmp_path)
    rename = os.rename

    def failing(source: Path, target: Path) -> None:
        if "new" in Path(source).parts:
            raise OSError(errno.EIO, "Input/output error")
        rename(source, target)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(StorageError, match="Input/output"):
        outcomes(tmp_path)
    assert files(tmp_path) == before


@pytest.mark.parametrize("single", [True, False])
def test_a_run_killed_between_two_steps_is_repaired(tmp_path: Path, single: bool) -> None:
    record(tmp_path / "b")
    kept = shutil.copytree(tmp_path / "b", tmp_path / "kept" / "b")
    aside = tmp_path / workplace.WORKPLACE / "aside"
    aside.mkdir(parents=True)
    (tmp_path / "b").rename(aside / "b")
    record(aside.with_name("new") / "b", codec="arithmetic")
    shutil.move(tmp_path / "kept", tmp_path.parent / f"{tmp_path.name}-kept")
    assert outcomes(tmp_path / "b" if single else tmp_path) == {"b": "compressed"}
    assert os.listdir(tmp_path) == ["b"]
    assert_same_content(tmp_path / "b", tmp_path.parent / f"{tmp_path.name}-kept" / kept.name)


def test_two_different_bundles_of_one_name_are_both_kept(tmp_path: Path) -> None:
    record(tmp_path / "b")
    record(tmp_path / workplace.WORKPLACE / "aside" / "b", seed=5)
    before = files(tmp_path)
    with pytest.raises(StorageError, match="killed run") as caught:
        outcomes(tmp_path)
    assert "aside" in str(caught.value)
    assert files(tmp_path) == before


def test_leftovers_of_a_killed_run_go(tmp_path: Path) -> None:
    record(tmp_path / "b", created_at=datetime.now(UTC))
    half = tmp_path / workplace.WORKPLACE / "new" / "b"
    half.mkdir(parents=True)
    (half / "manifest.json").write_text("{")
    assert outcomes(tmp_path) == {"b": "too_young"}
    assert os.listdir(tmp_path) == ["b"]


def test_a_bundle_that_is_replaced_while_it_is_opened_is_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from model_forensics.bundle import checks

    record(tmp_path / "b")
    listed = checks.check_listed

    def meanwhile(*arguments: Any) -> None:
        monkeypatch.setattr(checks, "check_listed", listed)
        assert outcomes(tmp_path) == {"b": "compressed"}
        listed(*arguments)

    monkeypatch.setattr(checks, "check_listed", meanwhile)
    bundle = load_bundle(tmp_path / "b")
    assert bundle.manifest.codec == "arithmetic"
    (tmp_path / "b" / "samples.jsonl").unlink()
    with pytest.raises(BundleFormatError, match="missing"):
        load_bundle(tmp_path / "b")


def test_a_bundle_that_is_broken_stays_broken_for_a_reader(tmp_path: Path) -> None:
    with pytest.raises(BundleFormatError):
        list(archive.compress_bundles(tmp_path, timedelta(0)))
    assert os.listdir(tmp_path) == []


def failing_calls() -> dict[str, Callable[[pytest.MonkeyPatch], None]]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    return {
        "encode": lambda patch: patch.setattr(compress, "encode_file", fail),
        "copy": lambda patch: patch.setattr(compress, "pieces_of", fail),
        "sync": lambda patch: patch.setattr(os, "fsync", fail),
        "mkdir": lambda patch: patch.setattr(Path, "mkdir", fail),
        "owner": lambda patch: patch.setattr(compress.shutil, "copystat", fail),
        "exchange": lambda patch: patch.setattr(_exchange, "exchanged", fail),
    }


@pytest.mark.parametrize("call", failing_calls())
def test_a_failed_write_leaves_the_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    record(tmp_path / "b")
    before = files(tmp_path)
    with monkeypatch.context() as patch:
        failing_calls()[call](patch)
        with pytest.raises(StorageError, match="No space left"):
            outcomes(tmp_path)
    assert files(tmp_path) == before
    assert os.listdir(tmp_path) == ["b"]
    assert outcomes(tmp_path) == {"b": "compressed"}


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
def test_a_directory_that_may_not_be_written_to(tmp_path: Path) -> None:
    record(tmp_path / "b")
    tmp_path.chmod(0o500)
    try:
        assert outcomes(tmp_path, dry_run=True) == {"b": "would_compress"}
        with pytest.raises(StorageError, match="Permission denied"):
            outcomes(tmp_path)
    finally:
        tmp_path.chmod(0o700)


def test_links_are_refused(tmp_path: Path) -> None:
    """A hard link would be cut, and a symbolic one followed."""
    record(tmp_path / "bundles" / "hard")
    record(tmp_path / "elsewhere" / "soft")
    (tmp_path / "backup").mkdir()
    os.link(tmp_path / "bundles" / "hard" / "inputs.safetensors", tmp_path / "backup" / "inputs.safetensors")
    (tmp_path / "bundles" / "soft").symlink_to(tmp_path / "elsewhere" / "soft")
    before = files(tmp_path)
    found = {Path(one.path).name: one for one in compress_bundles(tmp_path / "bundles", timedelta(0))}
    assert {name: one.outcome for name, one in found.items()} == {"hard": "refused", "soft": "refused"}
    assert "`cp -r`" in str(found["hard"].reason)
    assert "symbolic link" in str(found["soft"].reason)
    assert files(tmp_path) == before
