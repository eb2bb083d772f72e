"""Bundles that hold too much are refused before it is parsed, and are not written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_forensics.bundle import BundleWriter, checks, coded, load_bundle, schema, writer
from model_forensics.bundle.coded import encode_file
from model_forensics.errors import BundleFormatError, UsageError
from model_forensics.files import _safetensors_read, _safetensors_write, create_file, write_safetensors
from model_forensics.types import Sparse

Edit = Callable[[Path, Callable[[dict[str, Any]], object]], None]
Seal = Callable[[Path], None]
ONE = np.ones((1, 1), np.float32)


def header_of(entries: int) -> bytes:
    named = {f"t{n}": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for n in range(entries)}
    text = json.dumps(named).encode()
    return len(text).to_bytes(8, "little") + text


def not_parsed(monkeypatch: pytest.MonkeyPatch, module: Any) -> None:
    def parse(*_: object, **__: object) -> None:
        raise AssertionError("it is parsed")

    monkeypatch.setattr(module, "parse_json", parse)


@pytest.mark.parametrize(
    ("name", "entries"),
    [
        ("activations/000.safetensors", 1100),
        ("activations/offsets.safetensors", 6000),
        ("outputs.safetensors", 6000),
        ("inputs.safetensors", 70_000),
    ],
)
def test_headers_with_more_tensors_than_belong(
    broken: Path, reseal: Seal, monkeypatch: pytest.MonkeyPatch, name: str, entries: int
) -> None:
    (broken / name).write_bytes(header_of(entries))
    reseal(broken)
    real = _safetensors_read.parse_json

    def parse(data: bytes, **named: Any) -> Any:
        assert len(data) < 10_000, "the large header is parsed"
        return real(data, **named)

    monkeypatch.setattr(_safetensors_read, "parse_json", parse)
    with pytest.raises(BundleFormatError, match=r"tensors or more, where at most"):
        load_bundle(broken)


def test_compressed_headers_with_more_tensors_than_belong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, stored = tmp_path / "plain", tmp_path / "stored"
    plain.write_bytes(header_of(1100))
    with create_file(stored, None) as out:
        encode_file(plain, out)
    not_parsed(monkeypatch, _safetensors_read)
    with pytest.raises(BundleFormatError, match=r"tensors or more, where at most 5 belong"):
        coded.open_coded(stored, plain.stat().st_size, most=5)


def test_manifests_with_more_sites_or_files_than_are_read(
    broken: Path, edit_manifest: Edit, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit_manifest(broken, lambda value: value.update(sites=[{}] * 80_000))
    not_parsed(monkeypatch, schema)
    with pytest.raises(BundleFormatError, match="more than 65,536 sites"):
        load_bundle(broken)


def test_as_many_samples_as_the_manifest_says(broken: Path, reseal: Seal, monkeypatch: pytest.MonkeyPatch) -> None:
    (broken / "samples.jsonl").write_bytes(b"{}\n" * 4)
    reseal(broken)
    monkeypatch.setattr(schema.Sample, "model_validate_json", None)
    with pytest.raises(BundleFormatError, match="4 samples; the manifest says 3"):
        load_bundle(broken)


def test_directories_with_more_files_than_are_read(broken: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "MAX_FILES", 6)
    load_bundle(broken)
    (broken / "one-more").touch()
    with pytest.raises(BundleFormatError, match="more than 6 files"):
        load_bundle(broken)


def test_calls_that_no_sample_backs(broken: Path, edit_manifest: Edit) -> None:
    edit_manifest(broken, lambda value: value.update(calls=1 << 30))
    with pytest.raises(BundleFormatError, match="1,073,741,824 calls for 3 samples"):
        load_bundle(broken)


def test_braces_in_names_are_no_tensors(tmp_path: Path) -> None:
    sites = {"{" * 900 + str(number): Sparse(ONE[0], np.array([0]), (1, 1)) for number in range(4)}
    for codec in ("none", "arithmetic"):
        with BundleWriter(tmp_path / codec, kind="benign", codec=codec) as written:  # type: ignore[arg-type]
            written.add_sample(activations=sites, outputs={"{logits": ONE})
        assert set(load_bundle(tmp_path / codec).sites) == set(sites)


@pytest.mark.parametrize("pair", [("L0.mlp", "L0.mlp\u200b"), ("caf\u00e9", "cafe\u0301"), ("a\u00adb", "ab")])
def test_names_that_look_the_same(broken: Path, tmp_path: Path, edit_manifest: Edit, pair: tuple[str, str]) -> None:
    def rename(value: dict[str, Any]) -> None:
        value["sites"][0]["name"], value["sites"][1]["name"] = pair

    edit_manifest(broken, rename)
    with pytest.raises(BundleFormatError, match="look the same"):
        load_bundle(broken)
    with (
        pytest.raises(UsageError, match="invisible"),
        BundleWriter(tmp_path / "b", kind="benign") as written,
    ):
        written.add_sample(activations=dict.fromkeys(pair, ONE))


def test_what_could_not_be_read_is_refused_when_it_is_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "MAX_TENSORS", 3)
    monkeypatch.setattr(writer, "MAX_SITES", 2)
    monkeypatch.setattr(writer, "MAX_OUTPUTS", 1)
    ids = np.array([[1]])
    with BundleWriter(tmp_path / "b", kind="benign") as written:
        written.add_sample(inputs={"a": ids, "b": ids}, activations={"x": ONE}, outputs={"logits": ONE})
        with pytest.raises(UsageError, match="at most 3 inputs"):
            written.add_sample(inputs={"a": ids, "b": ids}, activations={"x": ONE})
        with pytest.raises(UsageError, match="more than 2 sites"):
            written.add_sample(activations={"x": ONE, "y": ONE, "z": ONE})
        with pytest.raises(UsageError, match="1 outputs"):
            written.add_sample(activations={"x": ONE}, outputs={"logits": ONE, "more": ONE})
        written.add_sample(inputs={"a": ids}, activations={"x": ONE, "y": ONE})
    assert len(load_bundle(tmp_path / "b").samples) == 2


@pytest.mark.parametrize("limit", ["MAX_TENSORS", "MAX_HEADER_BYTES"])
def test_tensor_files_that_could_not_be_read_are_not_written(
    tmp_path: Path, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_safetensors_write, limit, 1)
    with pytest.raises(UsageError, match="are read"):
        write_safetensors(tmp_path / "x", {"a": ONE, "b": ONE})
    assert not (tmp_path / "x").exists()
