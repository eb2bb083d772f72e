"""`confidence` is what the zoo's development split gives: its constants are those of the score that is committed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn")

from bench.zoo.calibration import calibration
from bench.zoo.fitting import fit
from bench.zoo.make import SAMPLES
from bench.zoo.score import written
from bench.zoo.table import blocks
from model_forensics.pipeline.confidence import GROUPS, INTERCEPT, SLOPE, calibrated

ROOT = Path(__file__).parents[2]
SCORE = json.loads((ROOT / "bench" / "zoo" / "results.json").read_text())


def test_the_constants_are_fitted_on_the_development_split_of_the_committed_score():
    assert fit(SCORE["incidents"]) == (INTERCEPT, SLOPE)
    assert GROUPS == SAMPLES // 2, "half of an incident's samples are held out"
    others = [{**one, "named": not one["named"]} if one["split"] == "test" else one for one in SCORE["incidents"]]
    assert fit(others) == (INTERCEPT, SLOPE), "the test split has no part in it"


def test_the_committed_confidences_are_those_of_the_constants():
    causes = [one for one in SCORE["incidents"] if one["confidence"] is not None]
    assert len(causes) > 50
    for one in causes:
        assert one["confidence"] == pytest.approx(calibrated(one["evidence"]))


def test_a_fit_tells_more_needed_sets_from_less_needed_ones():
    random = np.random.default_rng(0)
    evidence = random.uniform(-3, 3, size=2000)
    right = random.uniform(size=2000) < 1 / (1 + np.exp(-(1 + 0.7 * evidence)))
    made = [
        {"split": "development", "evidence": one, "named": bool(named)}
        for one, named in zip(evidence.tolist(), right, strict=True)
    ]
    intercept, slope = fit(made)
    assert intercept == pytest.approx(1, abs=0.2)
    assert slope == pytest.approx(0.7, abs=0.15)


def test_equal_confidences_stay_in_one_bin():
    confidence = np.array([0.75] * 40)
    right = np.arange(40) % 4 != 0
    found = calibration(confidence, np.sort(right))
    assert found is not None
    assert found.error == pytest.approx(0)


@pytest.mark.parametrize("page", ["README.md", "docs/zoo.md"])
def test_the_tables_are_those_of_the_committed_score(page):
    text = (ROOT / page).read_text()
    for name, table in blocks(SCORE).items():
        start = f"<!-- bench: {name} -->"
        if start in text:
            assert f"{start}\n{table}\n<!-- bench: end -->" in text, "make zoo"


def test_a_score_is_written_an_incident_a_line():
    assert json.loads(written(SCORE)) == SCORE
    assert len(written(SCORE).splitlines()) < 3 * len(SCORE["incidents"]) + 4000
