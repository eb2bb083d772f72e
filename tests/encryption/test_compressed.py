"""Old encrypted bundles are compressed like plain ones: decrypted, coded, encrypted, and never plain on disk."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from alike import same
from click.testing import CliRunner

from model_forensics.bundle import BundleWriter, compress_bundles, load_bundle
from model_forensics.bundle.coded import encode_file
from model_forensics.cli.main import main
from model_forensics.files import (
    KEY_VARIABLE,
    OLD_KEY_VARIABLE,
    Seal,
    create_file,
    open_content,
    read_content,
    write_safetensors,
)

WHEN = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def bundles(tmp_path, use, key):
    """One large enough to be worth it; the process has the key."""
    use(key)
    with BundleWriter(tmp_path / "bundles" / "b", kind="benign", created_at=WHEN) as writer:
        for number in range(3):
            values = np.full((300, 256), number, np.float32)
            writer.add_sample(activations={"embed": values}, inputs={"x": values[None]})
    return tmp_path / "bundles"


def test_compressed_and_still_encrypted(bundles, key):
    before = load_bundle(bundles / "b")
    content = [before.activation("embed", number).copy() for number in range(3)]
    (would,) = compress_bundles(bundles, timedelta(0), dry_run=True)
    (one,) = compress_bundles(bundles, timedelta(0))
    assert (would.outcome, would.before, would.after) == ("would_compress", one.before, one.after)
    assert one.outcome == "compressed"
    assert one.after < one.before
    after = load_bundle(bundles / "b")
    assert after.manifest.codec == "arithmetic"
    assert after.manifest.encryption == "aes256-gcm-hkdf-1mb"
    assert after.content_digest == before.content_digest
    assert all(same(after.activation("embed", number), content[number]) for number in range(3))
    files = [file for file in (bundles / "b").rglob("*") if file.is_file()]
    assert {file.suffix for file in files} == {".enc"}
    assert [one.outcome for one in compress_bundles(bundles, timedelta(0))] == ["already_compressed"]


def test_without_the_key_nothing_is_changed(bundles, use, other):
    for key in (None, other):
        use(key)
        (one,) = compress_bundles(bundles, timedelta(0))
        assert one.outcome == "refused"
        assert "key" in one.reason
    assert {file.suffix for file in (bundles / "b").rglob("*") if file.is_file()} == {".enc"}


def test_compressing_with_a_new_key(bundles, use, key, other):
    environment = {
        name: base64.b64encode(one.secret).decode() for name, one in ((KEY_VARIABLE, other), (OLD_KEY_VARIABLE, key))
    }
    arguments = ["compress-bundles", str(bundles), "--older-than", "0d", "--rekey"]
    done = CliRunner().invoke(main, arguments, env=environment)
    assert done.exit_code == 0, done.output
    use(other)
    assert load_bundle(bundles / "b").manifest.codec == "arithmetic"
    assert CliRunner().invoke(main, [*arguments, "--dry-run"], env=environment).exit_code == 2


@pytest.mark.parametrize("rows", [1, 300_000])
def test_coded_files_are_the_same_whatever_the_encryption(tmp_path, key, other, rows):
    """The index, known last, stands in the first segment, whether there are others or not."""
    rng = np.random.default_rng(0)
    arrays = {"a": rng.normal(size=(rows, 4)).astype(np.float32), "b": np.arange(rows)}
    write_safetensors(tmp_path / "plain", arrays)
    with create_file(tmp_path / "coded") as out:
        encode_file(tmp_path / "plain", out)
    write_safetensors(tmp_path / "sealed", arrays, seal=Seal(key, "x"))
    seal = Seal(other, "y")
    with create_file(tmp_path / "coded.enc", seal) as out:
        encode_file(tmp_path / "sealed", out, seal=Seal(key, "x"))
    assert read_content(open_content(tmp_path / "coded.enc", seal)) == (tmp_path / "coded").read_bytes()


@pytest.mark.parametrize("cut", ["manifest.json.enc", "activations/000.safetensors.mfa.enc"])
def test_half_an_encrypted_bundle_of_a_killed_run_goes(bundles, cut):
    """Also when the bundle that it was made from was removed since: what is left is no bundle."""
    from model_forensics.bundle.workplace import WORKPLACE

    with BundleWriter(bundles / WORKPLACE / "new" / "gone", kind="benign", codec="arithmetic") as writer:
        writer.add_sample(activations={"embed": np.zeros((300_000, 4), np.float32)})
    file = bundles / WORKPLACE / "new" / "gone" / cut
    with open(file, "rb+") as stream:  # as a killed writer leaves it: the first segment is written last
        stream.write(bytes(41))
    assert [one.outcome for one in compress_bundles(bundles, timedelta(0))] == ["compressed"]
    assert [path.name for path in bundles.iterdir()] == ["b"]


def test_what_a_killed_run_moved_aside_comes_back_without_its_key(bundles, use, other):
    from model_forensics.bundle.workplace import WORKPLACE

    (bundles / WORKPLACE / "aside").mkdir(parents=True)
    (bundles / "b").rename(bundles / WORKPLACE / "aside" / "b")
    use(other)
    assert [one.outcome for one in compress_bundles(bundles, timedelta(0))] == ["refused"]
    assert [path.name for path in bundles.iterdir()] == ["b"]
