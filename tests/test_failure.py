"""Failure predicates: the score's sign is the predicate, and only a known right answer counts as fixed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError

from model_forensics import Failure
from model_forensics.errors import ConfigError, OutputError
from model_forensics.failure import kl_bits

CLASSES = 5
logits = arrays(np.float32, CLASSES, elements=st.floats(-50, 50, width=32))


@given(logits, st.permutations(range(CLASSES)))
def test_margin_is_positive_exactly_when_a_wrong_answer_leads(values, order) -> None:
    wrong, right = order[:2], order[2:4]
    failure = Failure.token(wrong=wrong, right=right)
    leads = max(values[wrong]) > max(values[right])
    assert (failure.score(values) > 0) == leads
    expected = "failed" if leads else ("fixed" if int(np.argmax(values)) in right else "suppressed")
    assert failure.outcome(values) == expected


@given(logits)
def test_without_a_known_right_answer_nothing_is_fixed(values) -> None:
    assert Failure.label(wrong=[0]).outcome(values) in ("failed", "suppressed")
    assert Failure.label(wrong=[0]).outcome(values, reference=-values) in ("failed", "suppressed", "fixed")


@given(logits, st.integers(0, CLASSES - 1), st.sampled_from([np.nan, np.inf, -np.inf]))
def test_nonfinite_counts_the_share(values, place, bad) -> None:
    failure = Failure.nonfinite(right=[1])
    assert failure.score(values) == 0
    values[place] = bad
    assert failure.score(values) == pytest.approx(1 / CLASSES)
    assert failure.outcome(values) == "failed"
    with pytest.raises(OutputError, match="nonfinite"):
        Failure.token([0], [1]).score(values)
    assert Failure.token([0], [1]).outcome(values) == "suppressed"  # broken is not fixed


@given(logits, logits)
def test_divergence_is_kl_over_its_threshold(reference, values) -> None:
    divergence = kl_bits(reference, values)
    assert divergence >= 0
    assert math.isfinite(divergence)
    assert Failure.divergence(0.5).score(values, reference) == pytest.approx(divergence - 0.5)
    assert kl_bits(reference, reference) == pytest.approx(0, abs=1e-9)
    assert Failure.divergence(0.5).outcome(reference, reference) == "fixed"


def test_kl_of_known_distributions() -> None:
    expected = 0.5 * math.log2(0.5 / 0.25) + 0.5 * math.log2(0.5 / 0.75)
    assert kl_bits(np.log([0.5, 0.5]), np.log([0.25, 0.75])) == pytest.approx(expected)


def test_a_samples_own_answers_override() -> None:
    own = Failure.token(wrong=[0], right=[1]).with_answers(None, [2])
    assert (own.wrong, own.right) == ((0,), (2,))


@pytest.mark.parametrize(
    "arguments",
    [
        {"kind": "token", "wrong": [1], "right": [1]},
        {"kind": "token", "wrong": [-1]},
        {"kind": "divergence"},
        {"kind": "token", "threshold_bits": 1.0},
        {"kind": "divergence", "threshold_bits": float("nan")},
        {"kind": "guess"},
        {"kind": "token", "extra": 1},
    ],
)
def test_impossible_failures(arguments) -> None:
    with pytest.raises(ValidationError):
        Failure(**arguments)


@pytest.mark.parametrize(("wrong", "right"), [([], []), ([0], [99]), ([0, 1], [])])
def test_answers_that_judge_nothing(wrong, right) -> None:
    with pytest.raises(OutputError):
        Failure.token(wrong, right).score(np.zeros(2))


def test_divergence_needs_a_reference() -> None:
    with pytest.raises(OutputError, match="reference"):
        Failure.divergence(1.0).score(np.zeros(3))


@pytest.mark.parametrize(
    "values",
    [{"modul": {}}, {"modules": {"cf": {"anomaly_threshold": 0}}}, {"device": "tpu"}, {"timeout_minutes": -1}],
)
def test_wrong_configuration_names_the_key(values) -> None:
    from model_forensics.config import Config

    with pytest.raises(ConfigError) as refused:
        Config.from_dict(values, "here.yaml")
    assert next(iter(values)) in str(refused.value)
    assert "here.yaml" in str(refused.value)
