"""A broken or hostile bundle is refused with a named error that names the file and the cure."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_forensics.bundle import BundleWriter, find_bundles, load_bundle, load_bundles
from model_forensics.errors import (
    BundleDigestError,
    BundleFormatError,
    BundleVersionError,
    InputRefused,
    ModelForensicsError,
    OutputError,
    UnsafeFileError,
    UsageError,
)
from model_forensics.files import open_safetensors, write_safetensors

Edit = Callable[[Path, Callable[[dict[str, Any]], object]], None]
Seal = Callable[[Path], None]
SHARD = "activations/000.safetensors"
OFFSETS = "activations/offsets.safetensors"
FILES = ["samples.jsonl", "inputs.safetensors", "outputs.safetensors", SHARD, OFFSETS]
FIELDS = [
    "format_version", "bundle_id", "kind", "created_at", "model", "failure", "sites", "samples", "calls",
    "token_offsets", "environment", "codec", "encryption", "files",
]  # fmt: skip


def refused(path: Path, error: type[ModelForensicsError], match: str = ":") -> None:
    with pytest.raises(error, match=match) as caught:
        load_bundle(path)
    assert type(caught.value) is error
    assert caught.value.where is not None
    assert path.name in caught.value.where
    assert caught.value.cure
    assert caught.value.exit_code == 3


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Rewrite a safetensors file with other tensors (bfloat16 stays so)."""
    tensors = open_safetensors(path)
    arrays = {name: tensors.array(name).copy() for name in tensors.names}
    bits = {name for name in tensors.names if tensors.dtype(name) == "BF16"}
    change(arrays)
    write_safetensors(path, arrays, bfloat16=bits & set(arrays))


def rewrite_lines(path: Path, change: Callable[[list[dict[str, Any]]], object]) -> None:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    change(lines)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.parametrize("field", FIELDS)
def test_missing_field(broken: Path, edit_manifest: Edit, field: str) -> None:
    edit_manifest(broken, lambda value: value.pop(field))
    refused(broken, BundleFormatError, field)


@pytest.mark.parametrize("field", FIELDS)
def test_wrong_type_in_field(broken: Path, edit_manifest: Edit, field: str) -> None:
    edit_manifest(broken, lambda value: value.update({field: [[3.5]]}))
    with pytest.raises((BundleFormatError, BundleVersionError), match=field):
        load_bundle(broken)


def set_site(key: str, new: object) -> Callable[[dict[str, Any]], object]:
    return lambda value: value["sites"][0].update({key: new})


MANIFEST_FAULTS: dict[str, tuple[Callable[[dict[str, Any]], object], type[ModelForensicsError], str]] = {
    "unknown field": (lambda v: v.update(extra=1), BundleFormatError, "extra"),
    "unknown site field": (set_site("extra", 1), BundleFormatError, r"sites\.0\.extra"),
    "later version": (lambda v: v.update(format_version="1.1"), BundleVersionError, "1.1"),
    "version as number": (lambda v: v.update(format_version=1.0), BundleVersionError, "1.0"),
    "codec": (lambda v: v.update(codec="zstd"), BundleVersionError, "zstd"),
    "encryption": (lambda v: v.update(encryption="aes"), BundleVersionError, "aes"),
    "kind": (lambda v: v.update(kind="other"), BundleFormatError, "kind"),
    "no time zone": (lambda v: v.update(created_at="2025-01-01T00:00:00"), BundleFormatError, "created_at"),
    "control character": (lambda v: v.update(bundle_id="a\x1b[2J"), BundleFormatError, "bundle_id"),
    "benign failure": (lambda v: v.update(kind="benign"), BundleFormatError, "benign"),
    "contradictory failure": (lambda v: v["failure"].update(right=[3]), BundleFormatError, "failure"),
    "no samples": (lambda v: v.update(samples=0), BundleFormatError, "samples"),
    "sample count": (lambda v: v.update(samples=2, token_offsets=[0, 2, 5]), BundleFormatError, "3 samples"),
    "huge count": (lambda v: v.update(samples=1 << 60), BundleFormatError, "samples"),
    "true as number": (lambda v: v.update(samples=True), BundleFormatError, "samples"),
    "offset count": (lambda v: v["token_offsets"].append(9), BundleFormatError, "token_offsets"),
    "offsets decrease": (lambda v: v.update(token_offsets=[0, 5, 2, 6]), BundleFormatError, "token_offsets"),
    "offsets start": (lambda v: v.update(token_offsets=[1, 2, 5, 6]), BundleFormatError, "token_offsets"),
    "offsets differ": (lambda v: v.update(token_offsets=[0, 3, 5, 6]), BundleFormatError, "token_offsets"),
    "calls": (lambda v: v.update(calls=1), BundleFormatError, "call"),
    "site twice": (lambda v: v["sites"].append(v["sites"][0]), BundleFormatError, "twice"),
    "site without tensor": (set_site("name", "other"), BundleFormatError, "other"),
    "tensor without site": (lambda v: v["sites"].pop(1), BundleFormatError, "tensors"),
    "site features": (set_site("features", 4), BundleFormatError, "L0.attn"),
    "no features": (set_site("features", 0), BundleFormatError, "features"),
    "site dtype": (set_site("dtype", "float16"), BundleFormatError, "BF16"),
    "site layout": (set_site("layout", "sparse"), BundleFormatError, "sparse"),
    "site file": (set_site("file", "samples.jsonl"), BundleFormatError, "samples.jsonl"),
    "site file outside": (set_site("file", "../x.safetensors"), BundleFormatError, "no activation file"),
    "site rows": (set_site("rows", 7), BundleFormatError, "rows"),
    "negative layer": (set_site("layer", -1), BundleFormatError, "layer"),
    "unlisted samples": (lambda v: v["files"].pop("samples.jsonl"), BundleFormatError, "samples.jsonl"),
    "unlisted shard": (lambda v: v["files"].pop(SHARD), BundleFormatError, "000"),
    "unlisted offsets": (lambda v: v["files"].pop(OFFSETS), BundleFormatError, "offsets"),
    "listed but missing": (
        lambda v: v["files"].update({"activations/001.safetensors": v["files"][SHARD]}), BundleFormatError, "missing",
    ),
    "path outside": (lambda v: v["files"].update({"../x": v["files"][SHARD]}), UnsafeFileError, "leaves"),
    "absolute path": (lambda v: v["files"].update({"/etc/x": v["files"][SHARD]}), UnsafeFileError, "leaves"),
    "NUL in name": (lambda v: v["files"].update({"a\0b": v["files"][SHARD]}), UnsafeFileError, "leaves"),
    "another name": (lambda v: v["files"].update({"model.py": v["files"][SHARD]}), BundleFormatError, "no place"),
    "declared size": (lambda v: v["files"][SHARD].update(bytes=1 << 40), BundleFormatError, "000"),
    "digest": (lambda v: v["files"][SHARD].update(sha256="sha256:" + "0" * 64), BundleDigestError, "digest"),
    "digest form": (lambda v: v["files"][SHARD].update(sha256="md5:0"), BundleFormatError, "sha256"),
}  # fmt: skip


@pytest.mark.parametrize("case", MANIFEST_FAULTS)
def test_manifest_fault(broken: Path, edit_manifest: Edit, case: str) -> None:
    change, error, match = MANIFEST_FAULTS[case]
    edit_manifest(broken, change)
    refused(broken, error, match)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "3",
        "{",
        "nope",
        '{"a": NaN}',
        '{"a": 1e999}',
        '{"kind": 1, "kind": 1}',
        "[" * 100_000,
        '{"a":"\\ud800"}',
    ],
)
def test_manifest_is_no_json_object(broken: Path, text: str) -> None:
    (broken / "manifest.json").write_text(text)
    refused(broken, BundleFormatError)


def test_manifest_is_not_text(broken: Path) -> None:
    (broken / "manifest.json").write_bytes(b"\xff\xfe{}")
    refused(broken, BundleFormatError)


SAMPLE_FAULTS: dict[str, tuple[Callable[[list[dict[str, Any]]], object], str]] = {
    "one too few": (lambda lines: lines.pop(), "2 samples"),
    "field missing": (lambda lines: lines[1].pop("group"), "group"),
    "field unknown": (lambda lines: lines[1].update(extra=1), "extra"),
    "tokens": (lambda lines: lines[1].update(tokens=4), "tokens"),
    "negative": (lambda lines: lines[1].update(row=-1), "negative"),
    "call": (lambda lines: lines[1].update(call=2), "call 2"),
    "row": (lambda lines: lines[1].update(row=2), "row 2"),
    "same row": (lambda lines: lines[1].update(row=0), "twice"),
    "same id": (lambda lines: lines[1].update(sample_id="sample-0"), "twice"),
}


@pytest.mark.parametrize("case", SAMPLE_FAULTS)
def test_sample_fault(broken: Path, reseal: Seal, case: str) -> None:
    change, match = SAMPLE_FAULTS[case]
    rewrite_lines(broken / "samples.jsonl", change)
    reseal(broken)
    refused(broken, BundleFormatError, match)


TENSOR_FAULTS: dict[str, tuple[str, Callable[[dict[str, Any]], object]]] = {
    "rows missing": (SHARD, lambda t: t.update({"L0.mlp": t["L0.mlp"][:-1]})),
    "another dtype": (SHARD, lambda t: t.update({"L0.mlp": t["L0.mlp"].astype("f8")})),
    "tensor too many": (SHARD, lambda t: t.update(extra=np.zeros(1))),
    "tensor missing": (SHARD, lambda t: t.pop("L0.mlp")),
    "index dtype": (SHARD, lambda t: t.update({"sparse/äöü module/indices": np.zeros(3, np.float32)})),
    "indices too few": (SHARD, lambda t: t.update({"sparse/äöü module/indices": np.zeros(2, np.uint16)})),
    "offsets wrap around": (OFFSETS, lambda t: t["entries"].__setitem__((0, 1), np.iinfo(np.int64).max)),
    "offsets negative": (OFFSETS, lambda t: t["rows"].__setitem__((0, 1), -1)),
    "offsets beyond": (OFFSETS, lambda t: t["rows"].__setitem__((0, 3), 99)),
    "offsets missing": (OFFSETS, lambda t: t.pop("entries")),
    "offsets shape": (OFFSETS, lambda t: t.update(entries=t["entries"][:, :-1])),
    "rows of the absent": (OFFSETS, lambda t: t["present"].__setitem__((0, 1), False)),
    "unknown table": (OFFSETS, lambda t: t.update(more=np.zeros(1))),
    "call unknown": ("inputs.safetensors", lambda t: t.update({"call7/input_ids": np.zeros((1, 1))})),
    "call unnamed": ("inputs.safetensors", lambda t: t.update(input_ids=np.zeros((1, 1)))),
    "output offsets": ("outputs.safetensors", lambda t: t["logits/offsets"].__setitem__(1, 7)),
    "output rows": ("outputs.safetensors", lambda t: t.update(logits=t["logits"][:2])),
    "output offsets missing": ("outputs.safetensors", lambda t: t.pop("logits/offsets")),
}


@pytest.mark.parametrize("case", TENSOR_FAULTS)
def test_tensor_fault(broken: Path, reseal: Seal, case: str) -> None:
    name, change = TENSOR_FAULTS[case]
    rewrite(broken / name, change)
    reseal(broken)
    refused(broken, BundleFormatError)


@pytest.mark.parametrize("indices", [[5, 0, 2], [0, 6, 2], [5, 5, 2], [0, 5, 6]])
def test_sparse_positions_are_checked_when_read(broken: Path, reseal: Seal, indices: list[int]) -> None:
    name = "sparse/äöü module"
    rewrite(broken / SHARD, lambda t: t.update({f"{name}/indices": np.array(indices, np.uint16)}))
    reseal(broken)
    bundle = load_bundle(broken)
    sample = 0 if indices[2] == 2 else 2
    words = f"{name}', sample {sample}, are out of order or range"
    with pytest.raises(BundleFormatError, match=words):
        bundle.activation(name, sample)
    with pytest.raises(BundleFormatError, match=words):
        bundle.recorded_activations(list(bundle.sites), sample)
    bundle.recorded_activations(list(bundle.sites), 2 - sample)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nonfinite_outputs(broken: Path, reseal: Seal, edit_manifest: Edit, value: float) -> None:
    rewrite(broken / "outputs.safetensors", lambda t: t["logits"].__setitem__((1, 1), value))
    reseal(broken)
    refused(broken, OutputError, "nonfinite")
    edit_manifest(broken, lambda v: v.update(failure={**v["failure"], "kind": "nonfinite", "wrong": [], "right": []}))
    assert not np.isfinite(load_bundle(broken).outputs(1)["logits"][0, 1])


@pytest.mark.parametrize("name", FILES)
def test_changed_byte_and_missing_file(broken: Path, name: str) -> None:
    data = bytearray((broken / name).read_bytes())
    data[-1] ^= 1
    (broken / name).write_bytes(data)
    refused(broken, BundleDigestError, name.rpartition("/")[2])
    (broken / name).unlink()
    refused(broken, BundleFormatError, "missing")


@pytest.mark.parametrize("name", ["manifest.json", *FILES, "activations", ""])
def test_links(broken: Path, tmp_path: Path, name: str) -> None:
    real = tmp_path / "elsewhere"
    shutil.move(broken / name, real)
    (broken / name).symlink_to(real)
    refused(broken, UnsafeFileError, "link")


def test_dangling_link_and_pipe(broken: Path) -> None:
    (broken / "activations" / "x").symlink_to("nowhere")
    refused(broken, UnsafeFileError, "link")
    (broken / "activations" / "x").unlink()
    os.mkfifo(broken / "activations" / "x")
    refused(broken, UnsafeFileError, "regular")


def pickles() -> dict[str, bytes]:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("data.pkl", b"x")
    found = {f"protocol{number}": pickle.dumps([1], protocol=number) for number in range(2, 6)}
    return {
        **found,
        "weights": archive.getvalue(),
        "a.pkl": b"x",
        "a.PT": b"x",
        "activations/a.bin": b"",
        "a.npy": b"x",
    }


@pytest.mark.parametrize("name", pickles())
def test_pickles(broken: Path, name: str) -> None:
    (broken / name).write_bytes(pickles()[name])
    refused(broken, UnsafeFileError, "pickle")


@pytest.mark.parametrize("name", [SHARD, "samples.jsonl", "manifest.json"])
def test_pickle_in_place_of_a_file(broken: Path, reseal: Seal, name: str) -> None:
    (broken / name).write_bytes(pickle.dumps([1] * 100))
    if name != "manifest.json":
        reseal(broken)
    with pytest.raises((UnsafeFileError, BundleFormatError)):
        load_bundle(broken)


@pytest.mark.parametrize(
    "name", ["notes.txt", "activations/notes.txt", ".hidden", "new\nline", "activations/7.safetensors"]
)
def test_unlisted_file(broken: Path, name: str) -> None:
    (broken / name).write_text("x")
    refused(broken, BundleFormatError, "does not list")


@pytest.mark.parametrize("name", ["sub", "activations/sub"])
def test_unexpected_directory(broken: Path, name: str) -> None:
    (broken / name).mkdir()
    refused(broken, BundleFormatError, "directory")


def test_not_a_bundle(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    for name in ("none", "file", "empty", "nul\0"):
        for function in (load_bundle, find_bundles):
            with pytest.raises(BundleFormatError) as caught:
                function(tmp_path / name)
            assert caught.value.cure


def test_a_bundle_without_manifest_is_not_skipped(broken: Path, tmp_path: Path) -> None:
    (broken / "manifest.json").unlink()
    with pytest.raises(BundleFormatError, match=r"manifest\.json is missing"):
        load_bundles(tmp_path)


def test_file_changed_after_loading(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "b", kind="benign") as writer:
        writer.add_sample(activations={"x": np.ones((1, 1), np.float32)})
    bundle = load_bundle(tmp_path / "b")
    with open(tmp_path / "b" / SHARD, "ab") as stream:
        stream.write(b"x")
    with pytest.raises(BundleFormatError, match="changed"):
        bundle.activation("x", 0)
    with pytest.raises(BundleFormatError, match="changed"):
        bundle.recorded_activations(["x"], 0)


def use(path: Path) -> None:
    """Load and read everything; only an `InputRefused` may come out of it."""
    try:
        bundle = load_bundle(path)
        for sample in range(len(bundle.samples)):
            bundle.outputs(sample)
            bundle.recorded_activations(list(bundle.sites), sample)
            for site in bundle.sites:
                if bundle.has_activation(site, sample):
                    bundle.activation(site, sample)
        for call in range(bundle.manifest.calls):
            bundle.inputs(call)
        json.dumps(bundle.describe())
    except InputRefused:
        pass


@pytest.mark.parametrize("name", ["manifest.json", *FILES])
@pytest.mark.parametrize("step", [17, pytest.param(1, marks=pytest.mark.slow)])
def test_no_damage_escapes_the_named_errors(broken: Path, reseal: Seal, name: str, step: int) -> None:
    """Every step-th byte changed, and every step-th truncation, with digests made right again."""
    original = (broken / name).read_bytes()
    for place in range(0, len(original), step):
        for damaged in (
            original[:place] + bytes([original[place] ^ (1 << place % 7)]) + original[place + 1 :],
            original[:place],
        ):
            (broken / name).write_bytes(damaged)
            if name != "manifest.json":
                reseal(broken)
            use(broken)


@pytest.mark.parametrize("name", ["manifest.json", *FILES])
def test_hard_links(broken: Path, tmp_path: Path, name: str) -> None:
    os.link(broken / name, tmp_path / "another-name")
    refused(broken, UnsafeFileError, "hard link")
    (tmp_path / "another-name").unlink()
    load_bundle(broken)


UNSHOWABLE = {"bidi": "L0\u202emlp", "isolate": "L0\u2066mlp", "line": "a\u2028b", "C1": "a\x9bb", "NUL": "a\0b"}


@pytest.mark.parametrize("case", UNSHOWABLE)
def test_names_that_do_not_show_what_they_are(broken: Path, tmp_path: Path, edit_manifest: Edit, case: str) -> None:
    edit_manifest(broken, set_site("name", UNSHOWABLE[case]))
    refused(broken, BundleFormatError, "name")
    with pytest.raises(UsageError, match="bidirectional"), BundleWriter(tmp_path / "b", kind="benign") as writer:
        writer.add_sample(activations={UNSHOWABLE[case]: np.ones((1, 1), np.float32)})
    with pytest.raises(UsageError, match="bundle_id"):
        BundleWriter(tmp_path / "b", kind="benign", bundle_id=UNSHOWABLE[case])


def test_names_that_look_the_same(broken: Path, tmp_path: Path, edit_manifest: Edit) -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"

    def rename(value: dict[str, Any]) -> None:
        value["sites"][0]["name"], value["sites"][1]["name"] = composed, decomposed

    edit_manifest(broken, rename)
    refused(broken, BundleFormatError, "look the same")
    one = np.ones((1, 1), np.float32)
    with pytest.raises(UsageError, match="normalisation"), BundleWriter(tmp_path / "b", kind="benign") as writer:
        writer.add_sample(activations={composed: one, decomposed: one})


def test_nothing_is_ever_extracted_from_an_archive() -> None:
    import model_forensics

    package = Path(model_forensics.__file__).parent
    sources = {path: path.read_text() for path in package.rglob("*.py")}
    assert sources
    for path, text in sources.items():
        for name in ("zipfile", "tarfile", "shutil.unpack_archive"):
            assert name not in text, f"{path} uses {name}"
