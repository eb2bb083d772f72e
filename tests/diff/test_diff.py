"""Two bundles and two results side by side."""

from __future__ import annotations

import base64
import json
import shutil
import weakref

import numpy as np
import pytest
from click.testing import CliRunner

from model_forensics import BundleWriter, load_bundle
from model_forensics.cli.main import main
from model_forensics.demo import data_directory
from model_forensics.diff import compare_recordings
from model_forensics.diff.values import Measured, difference, measure


@pytest.fixture(scope="module")
def data():
    with data_directory() as directory:
        yield directory


def write(path, values, *, tokens=((1, 2, 3), (4, 5, 6)), pad=0):
    with BundleWriter(path, kind="benign") as writer:
        for number, ids in enumerate(tokens):
            mask = [0] * pad + [1] * len(ids)
            writer.add_sample(
                inputs={"input_ids": np.array([[0] * pad + list(ids)]), "attention_mask": np.array([mask])},
                activations={"L0.mlp": values[number]},
                group=str(number),
            )
    return load_bundle(path)


def sections(comparison):
    return {one.title: one for one in comparison.sections}


def test_the_same_inputs_are_the_same_whatever_their_order_and_padding(tmp_path):
    random = np.random.default_rng(0)
    values = [random.standard_normal((3, 4)).astype(np.float32) for _ in range(2)]
    left = write(tmp_path / "a", values)
    right = write(tmp_path / "b", values[::-1], tokens=((4, 5, 6), (1, 2, 3)), pad=2)
    activations = sections(compare_recordings(left, right, ("a", "b")))["Activations"]
    assert (activations.compared, activations.differences) == (1, ())


def test_values_of_other_inputs_are_not_compared(tmp_path):
    values = [np.ones((3, 4), np.float32)] * 2
    right = write(tmp_path / "b", values, tokens=((7, 8, 9), (7, 8, 10)))
    found = sections(compare_recordings(write(tmp_path / "a", values), right, ("a", "b")))
    assert found["Activations"].compared == 0
    assert found["Activations"].note is not None
    assert len(found["Samples"].differences) == 2


def test_how_far_values_are():
    left, right = np.array([[3.0, 4.0]], np.float32), np.array([[3.0, 6.0]], np.float32)
    nan = np.array([[3.0, np.nan]], np.float32)
    sides = [{"x": left}, {"x": left}], [{"x": right}, {"x": nan}]
    found = measure(["x"], lambda n, i: sides[0][i][n], lambda n, i: sides[1][i][n], [(0, 0), (1, 1)])["x"]
    assert (found.samples, found.differ, found.unlike, found.count) == (2, 2, 1, 3)
    assert found.largest == 2.0
    assert found.squared_difference == 4.0
    row = difference("x", found)
    assert row.departure is not None
    assert (row.departure.largest_difference, row.departure.unlike) == (2.0, 1)
    assert row.departure.rms == pytest.approx(np.sqrt((9 + 16 + 9) / 3))
    assert row.departure.rms_difference == pytest.approx(np.sqrt(4 / 3))
    nothing = difference("x", Measured(samples=1, differ=1, unlike=1))
    assert nothing.departure is not None
    assert (nothing.left, nothing.departure.rms, nothing.departure.largest_difference) == (None, None, None)


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_the_command(data, tmp_path):
    incident, benign = data / "incident", data / "benign"
    same = run("diff", incident, incident, "--exit-code")
    assert same.exit_code == 0, same.output
    assert "agree" in same.stdout
    page = tmp_path / "page.html"
    other = run("diff", incident, benign, "--report", page, "--format", "json")
    assert other.exit_code == 0, other.output
    found = {one["title"]: one for one in json.loads(other.stdout)["sections"]}
    assert [row["key"] for row in found["Weights"]["differences"]] == ["transformer.h.2.mlp.c_proj.weight"]
    departing = [row["key"] for row in found["Activations"]["differences"]]
    assert departing == ["L2.mlp", "L2.resid", "L3.attn", "L3.mlp", "L3.resid", "final_norm"]  # only what follows it
    assert "L2.mlp" in page.read_text()
    assert "<script" not in page.read_text()
    assert run("diff", incident, benign, "--report", page).exit_code == 2
    assert run("diff", incident, benign, "--exit-code").exit_code == 1


def test_results_and_what_is_of_another_kind(data, tmp_path):
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    for path, more in ((first, []), (second, ["--baseline", data / "benign"])):
        done = run("analyze", data / "incident", "--forensics-only", "--output", path, *more)
        assert done.exit_code == 0, done.output
    same = tmp_path / "same.json"
    shutil.copy(first, same)
    document = json.loads(same.read_text())
    document["execution_time"], document["environment"]["incident_path"] = 99.0, "/elsewhere"
    same.write_text(json.dumps(document))
    assert run("diff", first, same, "--exit-code").exit_code == 0  # where and when are no difference
    other = run("diff", first, second, "--exit-code")
    assert other.exit_code == 1
    assert "anomaly_located" in other.stdout
    mixed = run("diff", first, data / "incident")
    assert mixed.exit_code == 2
    assert "is a bundle" in mixed.stderr


def test_what_one_side_lacks_and_what_has_another_shape(tmp_path):
    """Sites, sizes and samples that differ are said, and never compared as if they were the same."""
    nan = np.full((3, 4), np.nan, np.float32)
    left = write(tmp_path / "a", [np.ones((3, 4), np.float32), nan])
    wide = write(tmp_path / "b", [np.ones((3, 5), np.float32)] * 2)
    found = sections(compare_recordings(left, wide, ("a", "b")))
    assert [row.key for row in found["Sites"].differences] == ["L0.mlp"]
    assert found["Activations"].differences[0].departure.unlike == 2
    broken = write(tmp_path / "c", [np.ones((3, 4), np.float32), nan])
    assert not compare_recordings(left, broken, ("a", "c")).differ  # NaN at the same places is the same
    fewer = write(tmp_path / "d", [nan], tokens=((4, 5, 6),))
    found = sections(compare_recordings(left, fewer, ("a", "d")))
    assert {row.key for row in found["Samples"].differences} == {"sample-0", "sample-1"}
    assert (found["Activations"].compared, found["Activations"].differences) == (1, ())


def test_one_array_of_each_side_is_in_memory_at_a_time():
    held: list[weakref.ref] = []
    most = 0

    def read(_name, _sample):
        nonlocal most
        most = max(most, sum(reference() is not None for reference in held))
        value = np.ones((2, 2), np.float32)
        held.append(weakref.ref(value))
        return value

    measure(["x", "y"], read, read, [(0, 0), (1, 1)])
    assert most <= 3  # the two of the pair before, until the names are bound anew, and the first of this one


def test_encrypted_bundles_and_hostile_names(tmp_path, monkeypatch):
    values = [np.ones((3, 4), np.float32)] * 2
    write(tmp_path / "plain <b>", values)
    monkeypatch.setenv("MODEL_FORENSICS_ENCRYPTION_KEY", base64.b64encode(bytes(range(32))).decode())
    write(tmp_path / "sealed", values)
    page = tmp_path / "page.html"
    assert run("diff", tmp_path / "plain <b>", tmp_path / "sealed", "--exit-code").exit_code == 0
    assert run("diff", tmp_path / "plain <b>", tmp_path / "sealed", "--report", page).exit_code == 0
    assert page.read_bytes()[0] == 40  # encrypted as every report is
    monkeypatch.delenv("MODEL_FORENSICS_ENCRYPTION_KEY")
    refused = run("diff", tmp_path / "plain <b>", tmp_path / "sealed")
    assert refused.exit_code == 3
    assert "MODEL_FORENSICS_ENCRYPTION_KEY" in refused.stderr
    assert run("diff", tmp_path / "plain <b>", tmp_path / "plain <b>", "--report", page, "--force").exit_code == 0
    text = page.read_text()
    assert "<b>" not in text
    assert "plain &lt;b&gt;" in text
