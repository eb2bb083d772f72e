"""Bundles that are stored compressed: the same content, and nothing that stored bytes can do to a reader."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alike import same
from click.testing import CliRunner
from golden_writer import write_golden
from hypothesis import given, settings
from hypothesis import strategies as st

from model_forensics import ops
from model_forensics.bundle import Bundle, BundleWriter, coded, load_bundle, sections
from model_forensics.errors import (
    BundleDigestError,
    BundleFormatError,
    BundleVersionError,
    InputRefused,
    StorageError,
    UnsafeFileError,
    UsageError,
)
from model_forensics.types import SiteInfo, Sparse

GOLDEN = Path(__file__).parent / "golden-arithmetic"
SHARD = "activations/000.safetensors.mfa"
CODED = ["inputs.safetensors.mfa", "outputs.safetensors.mfa", SHARD, "activations/offsets.safetensors.mfa"]
Edit = Callable[[Path, Callable[[dict[str, Any]], object]], None]


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A copy of the compressed golden bundle to break."""
    return Path(shutil.copytree(GOLDEN, tmp_path / "broken"))


def everything(bundle: Bundle) -> list[Any]:
    """All that can be read from a bundle, comparable."""
    found: list[Any] = [bundle.samples, dict(bundle.sites), bundle.failure, bundle.content_bytes]
    for sample in range(len(bundle.samples)):
        found.append({name: (v.dtype, v.tolist()) for name, v in bundle.outputs(sample).items()})
        together = bundle.recorded_activations(list(bundle.sites), sample)
        for site in bundle.sites:
            if site in together:
                assert same(together[site], bundle.activation(site, sample))
            value = bundle.raw(site, sample) if bundle.has_activation(site, sample) else None
            arrays = (value.values, value.indices) if isinstance(value, Sparse) else (value,)
            found.append([None if a is None else (a.dtype, a.shape, a.tobytes()) for a in arrays])
    for call in range(bundle.manifest.calls):
        found.append({name: (v.dtype, v.tolist()) for name, v in bundle.inputs(call).items()})
    return found


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_writing_reproduces_the_golden_bytes(tmp_path: Path) -> None:
    write_golden(tmp_path / "again", codec="arithmetic")
    assert files(tmp_path / "again") == files(GOLDEN)
    assert set(files(GOLDEN)) == {"manifest.json", "samples.jsonl", *CODED}


def test_it_holds_what_the_plain_bundle_holds(golden: Path) -> None:
    plain, compressed = load_bundle(golden), load_bundle(GOLDEN)
    assert everything(compressed) == everything(plain)
    assert compressed.manifest.files == plain.manifest.files
    assert compressed.manifest.codec == "arithmetic"


def test_sizes_are_those_on_disk_and_of_the_content(golden: Path) -> None:
    for path in (golden, GOLDEN):
        assert load_bundle(path).bytes == sum(len(data) for data in files(path).values())
    assert load_bundle(GOLDEN).content_bytes == load_bundle(golden).content_bytes
    assert load_bundle(GOLDEN).activation_bytes == load_bundle(golden).activation_bytes
    assert load_bundle(golden).bytes > load_bundle(golden).content_bytes


def test_inspect_names_the_codec() -> None:
    from model_forensics.cli.main import main

    shown = CliRunner().invoke(main, ["inspect", str(GOLDEN), "--format", "json"])
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.stdout)["codec"] == "arithmetic"


def test_the_recorder_passes_the_codec_on(tmp_path: Path) -> None:
    import torch

    from model_forensics import Recorder

    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(4, 3))
    for codec in ("none", "arithmetic"):
        with Recorder(module, sites="all", codec=codec).benign(tmp_path / codec) as recording:  # type: ignore[arg-type]
            recording.run(input=torch.ones(2, 4))
    assert load_bundle(tmp_path / "arithmetic").manifest.codec == "arithmetic"
    assert everything(load_bundle(tmp_path / "arithmetic")) == everything(load_bundle(tmp_path / "none"))


def test_arrays_are_read_only() -> None:
    value = load_bundle(GOLDEN).activation("L0.mlp", 0)
    assert isinstance(value, np.ndarray)
    with pytest.raises(ValueError, match="read-only"):
        value[0, 0] = 1


@settings(max_examples=25)
@given(data=st.data())
def test_random_recordings_survive(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Any dtype, any number of rows, with sections so small that tensors and items lie across their borders."""
    root = tmp_path_factory.mktemp("bundles")
    dtypes = data.draw(st.lists(st.sampled_from(["float16", "float32", "float64", "bfloat16"]), max_size=5))
    random = np.random.default_rng(data.draw(st.integers(0, 1 << 32)))
    samples = []
    for _ in range(data.draw(st.integers(1, 4))):
        sample: dict[str, np.ndarray | Sparse] = {}
        for number, dtype in enumerate(dtypes):
            size = 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize
            bits = random.integers(0, 256, (data.draw(st.integers(0, 9)), (number + 1) * size), np.uint8)
            dense = bits.view("u2" if dtype == "bfloat16" else dtype)
            kept = np.arange(0, dense.size, 3)
            sparse = number % 2 == 1
            sample[f"site{number}"] = Sparse(dense.reshape(-1)[kept], kept, dense.shape) if sparse else dense
        samples.append(sample)
    with pytest.MonkeyPatch.context() as patch:
        size = data.draw(st.sampled_from([8, 16, 1 << 20]))
        patch.setattr(sections, "SECTION", size)
        patch.setattr(coded, "SECTION", size)
        for codec in ("none", "arithmetic"):
            with BundleWriter(root / codec, kind="benign", codec=codec) as writer:  # type: ignore[arg-type]
                for number, dtype in enumerate(dtypes):
                    writer.declare_site(
                        SiteInfo(
                            name=f"site{number}",
                            module="m",
                            kind="module",
                            layer=None,
                            features=number + 1,
                            dtype=dtype,  # type: ignore[arg-type]
                            layout="sparse" if number % 2 else "dense",
                        )
                    )
                for sample in samples:
                    writer.add_sample(activations=sample, outputs={"logits": np.ones((1, 2), np.float32)})
        plain, compressed = load_bundle(root / "none"), load_bundle(root / "arithmetic")
        assert everything(compressed) == everything(plain)
        assert compressed.manifest.files == plain.manifest.files


def test_only_the_sections_of_a_sample_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).standard_normal((6, 256, 1024)).astype(np.float32)
    with BundleWriter(tmp_path / "b", kind="benign", codec="arithmetic") as writer:
        for value in values:
            writer.add_sample(activations={"x": value})
    bundle = load_bundle(tmp_path / "b", verify=False)
    monkeypatch.setattr(coded, "_RECENT", coded._RecentSections(2))
    decoded: list[int] = []
    decode = ops.arithmetic_decode
    monkeypatch.setattr(ops, "arithmetic_decode", lambda *a, **k: decoded.append(1) or decode(*a, **k))
    for _ in range(2):
        np.testing.assert_array_equal(bundle.activation("x", 4), values[4])
    assert len(decoded) == 1


@pytest.mark.parametrize("tag", ["U16", "U32", "I64", "I32", "F32", "BOOL"])
def test_differences_are_undone_exactly(tag: str) -> None:
    content = np.random.default_rng(1).integers(0, 256, 8 * 1001, np.uint8)
    coded_bytes = sections.differences(content, tag)
    assert (tag in ("U16", "U32", "I64")) == (coded_bytes.tobytes() != content.tobytes())
    np.testing.assert_array_equal(sections.sums(coded_bytes, tag), content)


def test_indices_that_grow_take_few_bytes(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    indices = np.flatnonzero(random.random(60_000) < 0.25)
    values = np.ones(indices.size, np.float16)
    with BundleWriter(tmp_path / "b", kind="benign", codec="arithmetic") as writer:
        writer.add_sample(activations={"x": Sparse(values, indices, (60, 1000))})
    assert (tmp_path / "b" / SHARD).stat().st_size < indices.size * 0.6


def test_unknown_codecs_are_refused(tmp_path: Path, broken: Path, edit_manifest: Edit) -> None:
    with pytest.raises(UsageError, match="codec"):
        BundleWriter(tmp_path / "b", kind="benign", codec="zip")  # type: ignore[arg-type]
    edit_manifest(broken, lambda value: value.update(codec="zip"))
    with pytest.raises(BundleVersionError, match="zip"):
        load_bundle(broken)


def test_the_manifest_says_how_files_are_stored(broken: Path, edit_manifest: Edit) -> None:
    edit_manifest(broken, lambda value: value.update(codec="none"))
    with pytest.raises(BundleFormatError, match="does not list"):
        load_bundle(broken)


@pytest.mark.parametrize("name", CODED)
def test_a_plain_file_in_place_of_a_coded_one(broken: Path, golden: Path, name: str) -> None:
    shutil.copy(golden / name.removesuffix(".mfa"), broken / name)
    with pytest.raises(BundleFormatError, match="not a coded tensor file") as caught:
        load_bundle(broken)
    assert name.rpartition("/")[2] in str(caught.value)


def test_links_and_missing_files(broken: Path, tmp_path: Path) -> None:
    shutil.move(broken / SHARD, tmp_path / "elsewhere")
    with pytest.raises(BundleFormatError, match="missing"):
        load_bundle(broken)
    (broken / SHARD).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnsafeFileError, match="link"):
        load_bundle(broken)


def test_other_content_is_a_digest_error(broken: Path, edit_manifest: Edit) -> None:
    name = SHARD.removesuffix(".mfa")
    edit_manifest(broken, lambda value: value["files"][name].update(sha256="sha256:" + "0" * 64))
    with pytest.raises(BundleDigestError, match="digest"):
        load_bundle(broken)


@pytest.mark.parametrize("size", [0, 7, 1 << 20, 1 << 46])
def test_another_declared_size_is_refused(broken: Path, edit_manifest: Edit, size: int) -> None:
    name = SHARD.removesuffix(".mfa")
    edit_manifest(broken, lambda value: value["files"][name].update(bytes=size))
    with pytest.raises(BundleFormatError, match="000"):
        load_bundle(broken)


def test_a_file_changed_after_loading(broken: Path) -> None:
    bundle = load_bundle(broken, verify=False)  # so that nothing is decoded yet
    with open(broken / SHARD, "ab") as stream:
        stream.write(b"x")
    with pytest.raises(BundleFormatError, match="changed"):
        bundle.activation("L0.mlp", 0)


def rebuilt(stored: bytes, change: Callable[[list[bytes]], object]) -> bytes:
    """A coded file with other sections, and an index that fits them."""
    count = int.from_bytes(stored[8:16], "little")
    sizes = np.frombuffer(stored[16 : 16 + 8 * count], "<u8").tolist()
    ends = np.cumsum([16 + 8 * count, *sizes]).tolist()
    parts = [stored[a:b] for a, b in pairwise(ends)]
    change(parts)
    index = np.array([len(parts), *map(len, parts)], "<u8").tobytes()
    return stored[:8] + index + b"".join(parts)


def bomb(parts: list[bytes]) -> None:
    parts[1] = ops.arithmetic_encode(bytes(64 << 20), model="static", dtype="bytes")


HOSTILE: dict[str, Callable[[list[bytes]], object]] = {
    "a section more": lambda s: s.append(s[1]),
    "a section less": lambda s: s.pop(),
    "no sections": lambda s: s.clear(),
    "sections exchanged": lambda s: s.__setitem__(slice(1, 3), s[2:0:-1]),
    "a longer section": lambda s: s.__setitem__(1, ops.arithmetic_encode(bytes(1000), dtype="bytes")),
    "a shorter section": lambda s: s.__setitem__(1, ops.arithmetic_encode(bytes(1), dtype="bytes")),
    "an empty section": lambda s: s.__setitem__(1, b""),
    "a section that unpacks to 64 MiB": bomb,
    "a header that unpacks to 64 MiB": lambda s: s.__setitem__(
        0, ops.arithmetic_encode(bytes(64 << 20), dtype="bytes")
    ),
    "no header": lambda s: s.__setitem__(0, ops.arithmetic_encode(b"\2\0\0\0\0\0\0\0{}", dtype="bytes")),
    "a stored section of 1 MiB": lambda s: s.__setitem__(1, s[1] + bytes(1 << 20)),
}


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize("verify", [True, False])
def test_hostile_sections_are_refused_in_little_memory(broken: Path, case: str, verify: bool) -> None:
    (broken / SHARD).write_bytes(rebuilt((broken / SHARD).read_bytes(), HOSTILE[case]))
    tracemalloc.start()
    try:
        with pytest.raises(BundleFormatError, match="000"):
            everything(load_bundle(broken, verify=verify))
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_an_index_of_many_sections_takes_no_memory(broken: Path) -> None:
    stored = bytearray((broken / SHARD).read_bytes())
    stored[8:16] = (1 << 60).to_bytes(8, "little")
    (broken / SHARD).write_bytes(stored)
    with pytest.raises(BundleFormatError, match="out of range"):
        load_bundle(broken)


@pytest.mark.parametrize("name", CODED)
@pytest.mark.parametrize("step", [29, pytest.param(1, marks=pytest.mark.slow)])
def test_no_damage_escapes_the_named_errors(broken: Path, name: str, step: int) -> None:
    """Every step-th byte changed, and every step-th truncation, with and without digests."""
    original = (broken / name).read_bytes()
    content = everything(load_bundle(broken))
    for place in range(0, len(original), step):
        changed = original[:place] + bytes([original[place] ^ (1 << place % 8)]) + original[place + 1 :]
        for damaged in (changed, original[:place]):
            (broken / name).write_bytes(damaged)
            for verify in (True, False):
                try:
                    read = everything(load_bundle(broken, verify=verify))
                except InputRefused:
                    continue
                assert not verify or read == content


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ops, "arithmetic_encode", full)
    with (
        pytest.raises(StorageError, match="No space left"),
        BundleWriter(tmp_path / "b", kind="benign", codec="arithmetic") as writer,
    ):
        writer.add_sample(activations={"x": np.ones((1, 1), np.float32)})
    assert list(tmp_path.iterdir()) == []


def test_plain_bundles_load_no_compiler(golden: Path) -> None:
    import subprocess
    import sys

    program = f"import sys; from model_forensics import load_bundle; load_bundle({str(golden)!r}); " + (
        "print(sorted({'numba', 'scipy', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
