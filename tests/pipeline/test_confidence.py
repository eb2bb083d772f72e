"""`confidence`: what it is a function of; that it was fitted on the zoo is tested beside the zoo."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_forensics.pipeline.confidence import GROUPS, calibrated, confidence, necessity_evidence

RATES = st.lists(st.floats(-1, 1), min_size=1, max_size=5)


def test_without_a_cause_there_is_none():
    assert confidence(None) is None


@given(RATES, st.integers(1, 500))
def test_it_is_a_probability_that_the_least_needed_member_decides(necessity, groups):
    evidence = necessity_evidence(necessity, groups)
    assert evidence == necessity_evidence([min(necessity)], groups)
    assert 0 < calibrated(evidence) < 1
    mirrored = necessity_evidence([1 - max(min(necessity), 0.0)], groups)
    assert math.isclose(evidence, -mirrored, abs_tol=1e-9), "needed and not needed are odds of each other"


@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 500))
def test_a_member_that_is_needed_more_makes_it_larger(one, other, groups):
    low, high = sorted((one, other))
    assert calibrated(necessity_evidence([low], groups)) <= calibrated(necessity_evidence([high], groups))


def test_few_samples_are_little_evidence_and_many_are_no_more_than_was_measured():
    evidence = [necessity_evidence([1.0], groups) for groups in (1, 2, 5, GROUPS)]
    assert evidence == sorted(evidence)
    assert evidence[0] == pytest.approx(math.log(3))
    assert necessity_evidence([1.0], 10 * GROUPS) == evidence[-1]
    assert calibrated(evidence[0]) < calibrated(evidence[-1])
