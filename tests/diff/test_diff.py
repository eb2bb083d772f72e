"""Two bundles and two results side by side."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner

from model_forensics import BundleWriter, load_bundle
from model_forensics.cli.main import main
from model_forensics.demo import data_directory
from model_forensics.diff import compare_recordings
from model_forensics.diff.values import measure


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
    found = measure(["x"], lambda i: sides[0][i], lambda i: sides[1][i], [(0, 0), (1, 1)])["x"]
    assert (found.samples, found.differ, found.unlike, found.count) == (2, 2, 1, 3)
    assert found.largest == 2.0
    assert found.squared_difference == 4.0


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
