"""Bad input: an error that names the file and the cure, exit 3, nothing half-written."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from model_forensics import BundleWriter, Failure
from model_forensics.cli.main import main
from model_forensics.demo import data_directory

REFUSED = 3


@pytest.fixture
def case(tmp_path: Path) -> Path:
    """A copy of the shipped incident: `reference`, `model`, `incident` and `benign`."""
    with data_directory() as data:
        shutil.copytree(data, tmp_path / "case")
    return tmp_path / "case"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def edit_manifest(bundle: Path, change: Callable[[dict], object]) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    change(manifest)
    (bundle / "manifest.json").write_text(json.dumps(manifest))


def truncate(bundle: Path) -> None:
    file = bundle / "inputs.safetensors"
    file.write_bytes(file.read_bytes()[:-7])


def flip_a_byte(bundle: Path) -> None:
    file = bundle / "outputs.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "missing field": lambda b: edit_manifest(b, lambda m: m.pop("samples")),
    "unknown field": lambda b: edit_manifest(b, lambda m: m.update(extra=1)),
    "other version": lambda b: edit_manifest(b, lambda m: m.update(format_version="2.0")),
    "path that leaves": lambda b: edit_manifest(
        b, lambda m: m["files"].update({"../evil.safetensors": next(iter(m["files"].values()))})
    ),
    "sample count": lambda b: edit_manifest(b, lambda m: m.update(samples=m["samples"] + 1)),
    "site without tensor": lambda b: edit_manifest(b, lambda m: m["sites"][0].update(name="L9.mlp")),
    "digest": flip_a_byte,
    "truncated": truncate,
    "pickle": lambda b: (b / "weights.pkl").write_bytes(b"\x80\x04."),
    "symbolic link": lambda b: (b / "more").symlink_to(b / "manifest.json"),
    "no manifest": lambda b: (b / "manifest.json").unlink(),
    "not JSON": lambda b: (b / "manifest.json").write_text("{"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_broken_bundle(case: Path, kind: str) -> None:
    DAMAGE[kind](case / "incident")
    output = case / "out" / "results.json"
    result = run("analyze", case / "incident", "--baseline", case / "benign", "--output", output)
    assert result.exit_code == REFUSED, result.output
    assert str(case / "incident") in result.stderr
    assert result.stdout == ""
    assert not output.parent.exists()


def write_benign(path: Path, site: str, features: int, **model: object) -> None:
    from model_forensics.types import ModelReference

    reference = ModelReference(architecture=str(model.pop("architecture", "GPT2LMHeadModel")), family="gpt2", **model)
    with BundleWriter(path, kind="benign", model=reference) as writer:
        for group in range(6):
            values = np.random.default_rng(group).normal(size=(4, features)).astype(np.float32)
            writer.add_sample(inputs={"x": values[:, 0]}, activations={site: values}, outputs={}, group=str(group))


@pytest.mark.parametrize(
    ("features", "model", "names"),
    [
        (64, {"architecture": "OtherModel"}, "architecture"),
        (32, {}, "features"),
    ],
)
def test_baseline_of_another_model(case: Path, features: int, model: dict, names: str) -> None:
    write_benign(case / "other", "embed", features, **model)
    result = run("analyze", case / "incident", "--baseline", case / "other", "--output", case / "out" / "r.json")
    assert result.exit_code == REFUSED, result.output
    assert names in result.stderr
    assert not (case / "out").exists()


def test_empty_baseline(case: Path) -> None:
    (case / "none").mkdir()
    result = run("analyze", case / "incident", "--baseline", case / "none", "--output", case / "r.json")
    assert result.exit_code == REFUSED
    assert str(case / "none") in result.stderr


def test_other_weights_warn_and_strict_refuses(case: Path) -> None:
    arguments = ["analyze", case / "incident", "--baseline", case / "benign", "--model", case / "reference"]
    result = run(*arguments, "--output", case / "r.json", "--format", "json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["verdict"] == "not_reproduced"  # the intact model does not fail
    digests = [
        json.loads((case / b / "manifest.json").read_text())["model"]["weights_digest"] for b in ("incident", "benign")
    ]
    assert any(all(digest in warning for digest in digests) for warning in document["warnings"])
    strict = run(*arguments, "--output", case / "s.json", "--strict")
    assert strict.exit_code == REFUSED
    assert all(digest in strict.stderr for digest in digests)
    assert not (case / "s.json").exists()


def test_site_that_the_model_lacks(case: Path) -> None:
    fixed = run("analyze", case / "incident", "--baseline", case / "benign", "--output", case / "r.json")
    assert fixed.exit_code == 0, fixed.output
    (case / "r.json").write_text((case / "r.json").read_text().replace("L2.mlp", "L7.mlp"))
    result = run("validate-fix", case / "r.json", "--model", case / "model")
    assert result.exit_code == REFUSED
    assert "L7.mlp" in result.stderr


def test_nan_in_outputs(tmp_path: Path) -> None:
    from model_forensics.errors import OutputError

    logits = np.array([[0.0, np.nan, 1.0]], dtype=np.float32)
    with (
        pytest.raises(OutputError),
        BundleWriter(tmp_path / "inc", kind="incident", failure=Failure.token([1], [2])) as writer,
    ):
        writer.add_sample(inputs={}, activations={"s": np.ones((1, 2), np.float32)}, outputs={"logits": logits})
    assert list(tmp_path.iterdir()) == []


def test_no_space_left(case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    result = run(
        "analyze",
        case / "incident",
        "--baseline",
        case / "benign",
        "--forensics-only",
        "--output",
        case / "out" / "r.json",
    )
    assert result.exit_code == REFUSED, result.output
    assert "r.html: writing failed: No space left" in result.stderr  # the page comes first
    assert list((case / "out").glob("*")) == []


def test_validate_fix_holds_and_notices_when_it_does_not(case: Path) -> None:
    analyzed = run("analyze", case / "incident", "--baseline", case / "benign", "--output", case / "r.json")
    assert analyzed.exit_code == 0, analyzed.output
    assert run("validate-fix", case / "r.json", "--model", case / "model").exit_code == 0
    (case / "r.json").write_text((case / "r.json").read_text().replace('"site": "L2.mlp"', '"site": "L0.attn"'))
    moved = run("validate-fix", case / "r.json", "--model", case / "model")
    assert moved.exit_code == 1, moved.output
    assert "does not hold" in moved.stdout


def test_triage_lists_what_it_refuses(case: Path) -> None:
    flip_a_byte(case / "benign")
    result = run("triage", case, "--format", "json")
    assert result.exit_code == 4, result.output
    entries = json.loads(result.stdout)["entries"]
    assert [entry["error"] is None for entry in entries] == [True, False]
    assert str(case / "benign") in result.stderr


def test_interrupt_leaves_nothing(case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("model_forensics.pipeline.analysis.write_together", interrupted)
    result = run("analyze", case / "incident", "--forensics-only", "--output", case / "out" / "r.json")
    assert result.exit_code == 130
    assert list((case / "out").glob("*")) == []


def test_info_says_whether_it_is_healthy() -> None:
    document = json.loads(run("info", "--format", "json").stdout)
    assert document["health"]["status"] in ("ok", "degraded")
    assert document["backends"]["entropy_windows"]["numpy"] == "available"


def test_json_output_follows_the_schema(case: Path) -> None:
    import jsonschema

    from model_forensics.report import results_schema

    result = run(
        "analyze", case / "incident", "--forensics-only", "--output", case / "r.json", "--format", "json", "--exit-code"
    )
    document = json.loads(result.stdout)
    jsonschema.validate(document, results_schema())
    assert document["verdict"] == "not_judged"
    assert document["anomaly_score"] is None
    assert result.exit_code == 0


@pytest.mark.parametrize(
    "arguments", [["--methods", "lzma"], ["--threshold", "0"], ["--max-fix-set-size", "0"], ["--top", "1"]]
)
def test_usage(case: Path, arguments: list[str]) -> None:
    assert run("analyze", case / "incident", *arguments, "--output", case / "r.json").exit_code == 2
    assert not (case / "r.json").exists()
