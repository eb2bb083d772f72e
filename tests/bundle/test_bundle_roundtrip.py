"""What goes into a bundle comes out, bit for bit; the same content gives the same bytes."""

from __future__ import annotations

import filecmp
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from alike import same
from golden_writer import write_golden
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from model_forensics.bundle import BundleWriter, CallSample, find_bundles, load_bundle, load_bundles
from model_forensics.bundle import assemble as assemble_module
from model_forensics.errors import OutputError, StorageError, UnknownSite, UsageError
from model_forensics.failure import Failure
from model_forensics.types import Sparse


def write_simple(path: Path, **arguments: object) -> Path:
    with BundleWriter(path, kind="benign", **arguments) as writer:  # type: ignore[arg-type]
        writer.add_sample(activations={"L0.mlp": np.ones((2, 3), np.float32)})
    return path


def test_writing_reproduces_the_golden_bytes(golden: Path, tmp_path: Path) -> None:
    write_golden(tmp_path / "again")
    names = sorted(str(path.relative_to(golden)) for path in golden.rglob("*") if path.is_file())
    written = sorted(
        str(path.relative_to(tmp_path / "again")) for path in (tmp_path / "again").rglob("*") if path.is_file()
    )
    assert written == names
    assert filecmp.cmpfiles(golden, tmp_path / "again", names, shallow=False) == (names, [], [])


def test_golden_bundle_reads_back_exactly(golden: Path) -> None:
    bundle = load_bundle(golden)
    assert list(bundle.sites) == ["L0.attn", "L0.mlp", "sparse/äöü module", "final_norm"]
    assert [sample.sample_id for sample in bundle.samples] == ["sample-0", "sample-1", "sample-2"]
    assert [sample.group for sample in bundle.samples] == ["a", "a", "sample-2"]
    assert [(sample.call, sample.row, sample.tokens) for sample in bundle.samples] == [(0, 0, 2), (0, 1, 3), (1, 0, 1)]
    assert bundle.samples[2].right == (2,)
    assert bundle.samples[1].generated_from == 2
    assert bundle.failure == Failure.token(wrong=[3], right=[1])
    assert bundle.created_at == datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)
    bits = bundle.raw("L0.attn", 0)
    assert isinstance(bits, np.ndarray)
    np.testing.assert_array_equal(bits, np.array([[0x3F80, 0xBF80], [0x7FC1, 1]], np.uint16))
    widened = bundle.activation("L0.attn", 0)
    assert isinstance(widened, np.ndarray)
    np.testing.assert_array_equal(widened.view(np.uint32), bits.astype(np.uint32) << 16)
    sparse = bundle.activation("sparse/äöü module", 0)
    assert isinstance(sparse, Sparse)
    assert sparse.shape == (2, 3)
    assert sparse.indices.dtype == np.int64
    np.testing.assert_array_equal(sparse.indices, [0, 5])
    np.testing.assert_array_equal(sparse.values, np.array([1, -2], np.float16))
    assert [bundle.has_activation("final_norm", sample) for sample in range(3)] == [False, True, False]
    np.testing.assert_array_equal(bundle.inputs(0)["attention_mask"], [[1, 1, 0], [1, 1, 1]])
    np.testing.assert_array_equal(bundle.outputs(2)["logits"], [[1, 1.125, 1.25, 1.375]])
    assert bundle.bytes > bundle.activation_bytes > 0


def test_arrays_are_read_only_and_outlive_the_bundle(golden: Path) -> None:
    value = load_bundle(golden).activation("L0.mlp", 0)
    assert isinstance(value, np.ndarray)
    np.testing.assert_array_equal(value, np.arange(8, dtype=np.float32).reshape(2, 4) / 8)
    with pytest.raises(ValueError, match="read-only"):
        value[0, 0] = 1


def test_unknown_names_and_numbers(golden: Path) -> None:
    bundle = load_bundle(golden)
    with pytest.raises(UnknownSite, match=r"L0\.mlp"):
        bundle.activation("L0.mpl", 0)
    with pytest.raises(UnknownSite, match="sample 0 did not record"):
        bundle.activation("final_norm", 0)
    for call in (
        lambda: bundle.outputs(3),
        lambda: bundle.inputs(2),
        lambda: bundle.activation("L0.mlp", -1),
        lambda: bundle.recorded_activations([], 3),
    ):
        with pytest.raises(UsageError):
            call()


def test_describe_is_plain_and_complete(golden: Path) -> None:
    described = load_bundle(golden).describe()
    assert described["samples"] == 3
    assert described["groups"] == 2
    assert described["tokens"] == 6
    assert described["sites"][3] | {"name": "final_norm", "samples": 1, "rows": 1} == described["sites"][3]


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_random_ragged_recordings_survive(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Any rows per sample, site dtypes, missing sites, sparse and dense, also empty ones."""
    path = tmp_path_factory.mktemp("bundles") / "one"
    sites = {
        f"site{number}.ü/{number}": (dtype, data.draw(st.integers(1, 4)), data.draw(st.booleans()))
        for number, dtype in enumerate(
            data.draw(st.lists(st.sampled_from(["float16", "float32", "float64"]), max_size=4))
        )
    }
    samples: list[dict[str, np.ndarray | Sparse]] = []
    for _ in range(data.draw(st.integers(1, 4))):
        sample: dict[str, np.ndarray | Sparse] = {}
        for name, (dtype, features, sparse) in sites.items():
            rows = data.draw(st.integers(0, 5))
            if data.draw(st.booleans()):
                continue
            dense = data.draw(hnp.arrays(dtype, (rows, features)))
            kept = np.flatnonzero(data.draw(hnp.arrays(bool, rows * features)))
            sample[name] = Sparse(dense.reshape(-1)[kept], kept, (rows, features)) if sparse else dense
        samples.append(sample)
    with BundleWriter(path, kind="benign") as writer:
        for sample in samples:
            writer.add_sample(activations=sample)
    bundle = load_bundle(path)
    for number, sample in enumerate(samples):
        for name in sites:
            assert bundle.has_activation(name, number) == (name in sample)
        together = bundle.recorded_activations([*sites, "never recorded"], number)
        assert set(together) == set(sample)
        for name, value in sample.items():
            read = bundle.activation(name, number)
            held = together[name]
            assert same(held, read)
            assert not (held.values if isinstance(held, Sparse) else held).flags.writeable
            if isinstance(value, Sparse):
                assert isinstance(read, Sparse)
                assert read.shape == value.shape
                np.testing.assert_array_equal(read.indices, value.indices)
                assert read.values.tobytes() == value.values.tobytes()
                assert read.values.dtype == value.values.dtype
            else:
                assert isinstance(read, np.ndarray)
                assert read.shape == value.shape
                assert read.tobytes() == value.tobytes()
                assert read.dtype == value.dtype


def test_large_sparse_positions_and_several_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assemble_module, "SHARD_SITES", 2)
    wide = Sparse(np.ones(3, np.float32), np.array([0, 70_000, 5_000_000_000]), (6, 1_000_000_000))
    middle = Sparse(np.ones(2, np.float32), np.array([1, 70_000]), (1, 100_000))
    with BundleWriter(tmp_path / "b", kind="benign") as writer:
        writer.add_sample(
            activations={"wide": wide, "middle": middle, **{f"d{n}": np.full((1, 1), n, "f4") for n in range(3)}}
        )
    bundle = load_bundle(tmp_path / "b")
    assert len(list((tmp_path / "b" / "activations").glob("0*.safetensors"))) == 3
    for name, value in (("wide", wide), ("middle", middle)):
        read = bundle.activation(name, 0)
        assert isinstance(read, Sparse)
        np.testing.assert_array_equal(read.indices, value.indices)
        assert same(bundle.recorded_activations(list(bundle.sites), 0)[name], read)
    assert [float(np.asarray(bundle.activation(f"d{n}", 0))[0, 0]) for n in range(3)] == [0, 1, 2]


def test_thousand_sites_need_few_file_handles(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 16, hard))
    try:
        with BundleWriter(tmp_path / "b", kind="benign") as writer:
            for _ in range(3):
                writer.add_sample(activations={f"s{n}": np.full((2, 2), n, np.float32) for n in range(1500)})
        bundle = load_bundle(tmp_path / "b")
        assert float(np.asarray(bundle.activation("s1499", 2))[1, 1]) == 1499
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_threads_read_the_same(golden: Path) -> None:
    bundle = load_bundle(golden)
    expected = np.asarray(bundle.activation("L0.mlp", 1)).tobytes()
    results: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: results.append(np.asarray(bundle.activation("L0.mlp", 1)).tobytes()))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 8


def test_site_names_are_understood(tmp_path: Path) -> None:
    names = [
        "embed",
        "L3.attn",
        "L3.head5",
        "L3.neuron812",
        "L3.resid",
        "final_norm",
        "logits",
        "encoder.0",
        "L3.headx",
    ]
    with BundleWriter(tmp_path / "b", kind="benign") as writer:
        writer.add_sample(activations={name: np.zeros((1, 1), np.float32) for name in names})
    sites = load_bundle(tmp_path / "b").sites
    assert list(sites) == names
    kinds = ["embed", "attn", "head", "neuron", "resid", "final_norm", "logits", "module", "module"]
    assert [site.kind for site in sites.values()] == kinds
    assert sites["L3.head5"].layer == 3
    assert sites["logits"].layer is None


def test_an_exception_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), BundleWriter(tmp_path / "b", kind="benign") as writer:  # noqa: PT012
        writer.add_sample(activations={"x": np.zeros((1, 1), np.float32)})
        (tmp_path / "missing").read_bytes()  # the caller's own error passes through
    assert list(tmp_path.iterdir()) == []


def test_no_samples_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no samples"), BundleWriter(tmp_path / "b", kind="benign"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_existing_bundles_are_kept_unless_asked(tmp_path: Path) -> None:
    write_simple(tmp_path / "b", bundle_id="old")
    with pytest.raises(UsageError, match="already exists"):
        write_simple(tmp_path / "b")
    with pytest.raises(UsageError), BundleWriter(tmp_path / "b", kind="benign", overwrite=True):
        pass  # fails: no samples
    assert load_bundle(tmp_path / "b").bundle_id == "old"
    write_simple(tmp_path / "b", bundle_id="new", overwrite=True)
    assert load_bundle(tmp_path / "b").bundle_id == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


ones = np.ones((2, 3), np.float32)
REFUSED = {
    "another dtype": {"x": ones.astype(np.float64)},
    "another width": {"x": ones[:, :2]},
    "one dimension": {"x": ones[0]},
    "sparse after dense": {"x": Sparse(np.ones(1, np.float32), np.array([0]), (2, 3))},
    "integers": {"y": ones.astype(np.int32)},
    "undeclared bits": {"y": ones.astype(np.uint16)},
    "indices out of range": {"y": Sparse(np.ones(1, np.float32), np.array([6]), (2, 3))},
    "indices not increasing": {"y": Sparse(np.ones(2, np.float32), np.array([1, 1]), (2, 3))},
    "indices negative": {"y": Sparse(np.ones(1, np.float32), np.array([-1]), (2, 3))},
    "lengths differ": {"y": Sparse(np.ones(2, np.float32), np.array([1]), (2, 3))},
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_samples_change_nothing(tmp_path: Path, case: str) -> None:
    with BundleWriter(tmp_path / "b", kind="benign") as writer:
        writer.add_sample(activations={"x": ones})
        with pytest.raises(UsageError):
            writer.add_sample(activations={"z": ones, **REFUSED[case]})
    bundle = load_bundle(tmp_path / "b")
    assert list(bundle.sites) == ["x"]
    assert len(bundle.samples) == 1


def test_nonfinite_outputs_need_that_failure(tmp_path: Path) -> None:
    bad = {"logits": np.array([[1, np.nan]], np.float32)}
    with pytest.raises(OutputError, match="nonfinite"), BundleWriter(tmp_path / "a", kind="incident") as writer:
        writer.add_sample(activations={"x": ones}, outputs=bad)
    with BundleWriter(tmp_path / "b", kind="incident", failure=Failure.nonfinite()) as writer:
        writer.add_sample(activations={"x": ones}, outputs=bad)
    assert np.isnan(load_bundle(tmp_path / "b").outputs(0)["logits"][0, 1])


def test_wrong_arguments(tmp_path: Path) -> None:
    for arguments in (
        {"kind": "other"},
        {"kind": "benign", "failure": Failure.nonfinite()},
        {"kind": "benign", "created_at": datetime(2025, 1, 1)},
        {"kind": "benign", "bundle_id": "a/b"},
    ):
        with pytest.raises(UsageError):
            BundleWriter(tmp_path / "b", **arguments)  # type: ignore[arg-type]
    with BundleWriter(tmp_path / "b", kind="benign") as writer:
        writer.add_sample(activations={"x": ones}, sample_id="same")
        with pytest.raises(UsageError, match="twice"):
            writer.add_sample(activations={"x": ones}, sample_id="same")
        with pytest.raises(UsageError, match="row 1"):
            writer.add_call({"input_ids": np.zeros((1, 2), np.int64)}, [CallSample({}), CallSample({})])


def test_disk_full_at_fsync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"No space left on device \(.*free") as caught:
        write_simple(tmp_path / "b")
    assert str(tmp_path) in str(caught.value)
    assert caught.value.exit_code == 3
    assert list(tmp_path.iterdir()) == []


LIMITED = """
import resource, sys
import numpy as np
from model_forensics.bundle import BundleWriter
from model_forensics.errors import StorageError
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    with BundleWriter(sys.argv[1], kind="benign") as writer:
        for _ in range(8):
            writer.add_sample(activations={"x": np.ones((100, 100), np.float32)})
except StorageError as problem:
    print("refused", "File too large" in str(problem))
"""


@pytest.mark.parametrize("limit", [100, 60_000, 320_000])  # within the first piece, in the middle, while assembling
def test_disk_full_at_write(tmp_path: Path, limit: int) -> None:
    assert run_python(LIMITED, str(tmp_path / "b"), str(limit)) == "refused True\n"
    assert list(tmp_path.iterdir()) == []


WITHOUT_TORCH = """
import sys
import numpy as np
from model_forensics.bundle import BundleWriter, load_bundle
with BundleWriter(sys.argv[1], kind="benign") as writer:
    writer.add_sample(activations={"x": np.ones((1, 1), np.float32)}, inputs={}, outputs={})
load_bundle(sys.argv[1]).activation("x", 0)
print("torch" in sys.modules)
"""


def test_needs_no_torch(tmp_path: Path) -> None:
    assert run_python(WITHOUT_TORCH, str(tmp_path / "b")) == "False\n"


def run_python(code: str, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=environment, check=True
    )
    return done.stdout


def test_directories_of_bundles(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write_simple(tmp_path / name)
    (tmp_path / "notes").mkdir()
    (tmp_path / "README").write_text("not a bundle")
    assert [bundle.bundle_id for bundle in load_bundles(tmp_path)] == ["a", "b"]
    assert find_bundles(tmp_path / "a") == [tmp_path / "a"]


def test_real_recordings_survive(tmp_path: Path) -> None:
    from model_forensics.files import open_safetensors
    from real_recordings import import_one, real_recordings

    for file in real_recordings()[::25]:
        bundle = load_bundle(import_one(file, tmp_path / file.stem))
        source = open_safetensors(file)
        assert len(bundle.sites) == 437
        assert bundle.samples[0].group == file.stem[:8]
        for name in bundle.sites:
            raw = bundle.raw(name, 0)
            assert isinstance(raw, Sparse)
            assert raw.values.dtype == np.uint16
            np.testing.assert_array_equal(raw.values, source.array(f"{name}/values"))
            np.testing.assert_array_equal(raw.indices, source.array(f"{name}/indices"))
