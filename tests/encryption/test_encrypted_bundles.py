"""Encrypted bundles: everything reads them like plain ones when the key is there, and nothing does without it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import oracle
import pytest
from alike import same
from golden_writer import write_golden

from model_forensics.bundle import BundleWriter, Shelf, find_bundles, is_bundle, load_bundle, load_bundles
from model_forensics.bundle import spool as spools
from model_forensics.errors import (
    BundleDigestError,
    BundleError,
    BundleFormatError,
    EncryptionError,
    EncryptionKeyError,
    InputRefused,
    UsageError,
)
from model_forensics.files import SEALED_SUFFIX, Seal, content_size, create_file, open_content, read_content
from model_forensics.types import Sparse
from tests.encryption.conftest import SECRET

CODECS = ["none", "arithmetic"]
MARK = b"SECRET PROMPT"


@pytest.fixture
def plain(tmp_path) -> Path:
    golden = Path(__file__).parent.parent / "bundle" / "golden"
    return Path(shutil.copytree(golden, tmp_path / "plain"))


@pytest.fixture(params=CODECS)
def sealed(tmp_path, use, key, request) -> Path:
    """The golden bundle, encrypted; the process has the key."""
    use(key)
    write_golden(tmp_path / "sealed", codec=request.param)
    return tmp_path / "sealed"


def reseal(path: Path, key, change) -> None:
    """What an attacker who has the key would do: change the content of a file."""
    seal = Seal(key, f"bundle/{path.relative_to(path.parents[0]).name.removesuffix(SEALED_SUFFIX)}")
    content = read_content(open_content(path, seal))
    with create_file(path, seal) as out:
        out.write(change(content))


def test_reads_like_the_plain_one(use, plain, sealed):
    expected, bundle = load_bundle(plain), load_bundle(sealed)
    assert bundle.manifest.encryption == "aes256-gcm-hkdf-1mb"
    assert bundle.describe()["encryption"] == "aes256-gcm-hkdf-1mb"
    assert bundle.content_digest == expected.content_digest
    assert bundle.samples == expected.samples
    assert bundle.content_bytes == expected.content_bytes
    assert bundle.bytes == sum(file.stat().st_size for file in sealed.rglob("*") if file.is_file())
    for number in range(len(expected.samples)):
        assert bundle.outputs(number).keys() == expected.outputs(number).keys()
        for name, value in expected.outputs(number).items():
            assert same(bundle.outputs(number)[name], value)
        together = bundle.recorded_activations(list(expected.sites), number)
        for site in expected.sites:
            if not expected.has_activation(site, number):
                continue
            assert same(bundle.activation(site, number), expected.activation(site, number))
            assert same(bundle.raw(site, number), expected.raw(site, number))
            assert same(together[site], expected.activation(site, number))
            values = bundle.raw(site, number)
            assert not (values.values if isinstance(values, Sparse) else values).flags.writeable
    for call in range(expected.manifest.calls):
        for name, value in expected.inputs(call).items():
            assert same(bundle.inputs(call)[name], value)


def test_every_file_is_encrypted_and_tink_reads_it(sealed):
    files = [file for file in sealed.rglob("*") if file.is_file()]
    assert len(files) == 6
    for file in files:
        assert file.suffix == ".enc"
        role = f"bundle/{file.relative_to(sealed)}".removesuffix(".enc")
        content = oracle.decrypt(SECRET, file.read_bytes(), role.encode())
        assert len(content) == content_size(file.stat().st_size)
        if file.name == "manifest.json.enc":
            assert content.startswith(b"{")


def test_found_like_plain_ones(tmp_path, sealed, key, use):
    assert is_bundle(sealed)
    assert find_bundles(sealed) == [sealed]
    assert find_bundles(tmp_path) == [sealed]
    assert [bundle.bundle_id for bundle in load_bundles(tmp_path)] == ["golden"]
    (shelved,) = Shelf().add(tmp_path)
    assert shelved.activation("L0.mlp", 0).shape == (2, 4)
    use(None)
    assert load_bundle(sealed, key=key).bundle_id == "golden"


def test_refused_without_the_key(sealed, use, other):
    use(None)
    with pytest.raises(EncryptionKeyError, match="MODEL_FORENSICS_ENCRYPTION_KEY is not set"):
        load_bundle(sealed)
    use(other)
    with pytest.raises(EncryptionKeyError, match="another key"):
        load_bundle(sealed)


@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.slow), 37])
def test_every_byte_of_every_file(sealed, step):
    """One bit of each: refused by name, without the digests too."""
    for file in sorted(file for file in sealed.rglob("*") if file.is_file()):
        data = file.read_bytes()
        for place in range(0, len(data), step):
            flipped = bytearray(data)
            flipped[place] ^= 1 << place % 8
            file.write_bytes(flipped)
            with pytest.raises(EncryptionError):
                load_bundle(sealed, verify=False)
        file.write_bytes(data)
    load_bundle(sealed)


def test_every_truncation(sealed):
    for file in sorted(file for file in sealed.rglob("*") if file.is_file()):
        data = file.read_bytes()
        for size in range(0, len(data), 29):
            file.write_bytes(data[:size])
            with pytest.raises((EncryptionError, BundleError)):
                load_bundle(sealed)
        file.write_bytes(data)


def test_files_of_other_names_do_not_open(sealed):
    inputs, outputs = sorted(sealed.glob("*puts*"))
    swapped = inputs.read_bytes()
    inputs.write_bytes(outputs.read_bytes())
    outputs.write_bytes(swapped)
    with pytest.raises((EncryptionKeyError, BundleFormatError)):
        load_bundle(sealed, verify=False)


def test_an_encrypted_bundle_is_checked_like_a_plain_one(sealed, key):
    reseal(sealed / "manifest.json.enc", key, lambda content: content.replace(b'"samples": 3', b'"samples": 4'))
    with pytest.raises(BundleFormatError, match="samples"):
        load_bundle(sealed)


@pytest.mark.parametrize("said", ["none", "aes"])
def test_the_manifest_must_say_how_it_is_stored(sealed, key, said):
    text = b'"encryption": "aes256-gcm-hkdf-1mb"'
    reseal(sealed / "manifest.json.enc", key, lambda content: content.replace(text, f'"encryption": "{said}"'.encode()))
    with pytest.raises(BundleError, match="encryption"):
        load_bundle(sealed)


def test_plain_and_encrypted_files_do_not_mix(sealed, plain, key):
    shutil.copy(plain / "manifest.json", sealed)
    with pytest.raises(BundleFormatError, match="does not list"):
        load_bundle(sealed)
    (sealed / "manifest.json.enc").unlink()
    with pytest.raises(InputRefused):
        load_bundle(sealed)


def test_a_plain_bundle_reads_whatever_the_key(plain, use, other):
    use(other)
    assert load_bundle(plain).bundle_id == "golden"


@pytest.mark.parametrize("codec", CODECS)
def test_nothing_plain_is_written_at_any_time(tmp_path, use, key, codec, monkeypatch):
    """Everything that any file of the temporary directory held when it was closed, removed or renamed."""
    use(key)
    rows = np.frombuffer(MARK * 4000, np.uint8)[: 52_000 // 8 * 8].view("<f4").reshape(-1, 4)
    seen: dict[str, bytes] = {}

    def look(*_: object) -> None:
        for file in tmp_path.rglob("*"):
            if file.is_file():
                seen[f"{file.name}"] = seen.get(file.name, b"") + file.read_bytes()

    for module, name in ((os, "fsync"), (os, "rename"), (Path, "unlink"), (spools.os, "pread")):
        original = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args, o=original, **kw: (look(), o(*args, **kw))[1])
    with BundleWriter(tmp_path / "b", kind="benign", codec=codec) as writer:
        for _ in range(2):
            values = {"L0.mlp": np.nan_to_num(rows)}
            writer.add_sample(inputs={"x": rows[None]}, activations=values, text=MARK.decode() * 9)
    assert any(name.startswith(".spool") for name in seen)
    assert ("inputs.safetensors.mfa.enc" if codec != "none" else "inputs.safetensors.enc") in seen
    assert not [name for name, content in seen.items() if MARK in content or b"safetensors" in content]
    assert load_bundle(tmp_path / "b").samples[0].text.startswith(MARK.decode())


def test_the_writer_can_be_told(tmp_path, use, key):
    def write(name, **options):
        with BundleWriter(tmp_path / name, kind="benign", **options) as writer:
            writer.add_sample(activations={"embed": np.ones((2, 3), np.float32)})
        return (tmp_path / name / "manifest.json.enc").exists()

    with pytest.raises(UsageError, match="without a key"):
        write("a", encryption="aes256-gcm-hkdf-1mb")
    assert not write("b")
    use(key)
    assert write("c")
    assert write("d", encryption="aes256-gcm-hkdf-1mb")
    assert not write("e", encryption="none")


def test_a_malformed_key_is_refused_before_anything_is_recorded(tmp_path, monkeypatch):
    monkeypatch.setenv("MODEL_FORENSICS_ENCRYPTION_KEY", "bm8=")
    with pytest.raises(EncryptionKeyError):
        BundleWriter(tmp_path / "a", kind="benign")
    assert list(tmp_path.iterdir()) == []


def test_only_the_segments_that_are_asked_for_are_decrypted(tmp_path, use, key, monkeypatch):
    from model_forensics.files._sealed import Cipher

    use(key)
    with BundleWriter(tmp_path / "b", kind="benign") as writer:
        for number in range(12):
            writer.add_sample(activations={"embed": np.full((512, 512), number, np.float32)})
    bundle = load_bundle(tmp_path / "b", verify=False)
    opened: list[int] = []
    decrypt = Cipher.decrypt
    monkeypatch.setattr(
        Cipher, "decrypt", lambda self, data, number, **kw: opened.append(number) or decrypt(self, data, number, **kw)
    )
    assert (np.asarray(bundle.activation("embed", 7)) == 7).all()
    assert set(opened) <= {6, 7, 8}


def test_the_environment_of_a_bundle_holds_no_key(sealed):
    import base64

    text = str(load_bundle(sealed).manifest.environment)
    assert base64.b64encode(SECRET).decode() not in text


def test_a_spool_is_read_at_any_place(tmp_path):
    spool = spools.Spool(tmp_path / "spool", encrypted=True)
    arrays = [np.arange(size, dtype=np.uint8) for size in (0, 1, 15, 16, 17, 255)]
    arrays.append(np.arange(3_000_001) % 251)
    places = [spool.append(array) for array in arrays]
    for array, place in reversed(list(zip(arrays, places, strict=True))):
        assert b"".join(spool.pieces([place])) == array.tobytes()
    assert b"".join(spool.pieces(places[::-1])) == b"".join(array.tobytes() for array in arrays[::-1])
    assert arrays[-1].tobytes()[:64] not in (tmp_path / "spool").read_bytes()
    spool.close()


def test_the_documentation_reads_a_manifest_with_tink(tmp_path, use, key, monkeypatch, capsys):
    import re

    use(key)
    write_golden(tmp_path / "incident")
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs" / "encryption.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(compile(code, "docs/encryption.md", "exec"), {})
    assert '"bundle_id": "golden"' in capsys.readouterr().out


def test_what_binds_a_file_to_its_bundle(tmp_path, use, key):
    """The role says which file of a bundle it is, and the digests of the manifest say of which bundle.

    So a file that is exchanged for the same one of another bundle opens, and only its digest tells.
    """
    use(key)
    for name, value in (("one", 1), ("two", 2)):
        with BundleWriter(tmp_path / name, kind="benign") as writer:
            writer.add_sample(activations={"embed": np.full((2, 3), value, np.float32)})
    file = Path("activations", "000.safetensors.enc")
    shutil.copy(tmp_path / "two" / file, tmp_path / "one" / file)
    with pytest.raises(BundleDigestError, match="digest"):
        load_bundle(tmp_path / "one")
    assert (load_bundle(tmp_path / "one", verify=False).activation("embed", 0) == 2).all()
