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
        {"kind": "text", "max_new_tokens": 4},
        {"kind": "text", "wrong_pattern": "a"},
        {"kind": "text", "wrong_pattern": "(", "max_new_tokens": 4},
        {"kind": "text", "wrong_pattern": "", "max_new_tokens": 4},
        {"kind": "text", "wrong_pattern": "a", "max_new_tokens": 0},
        {"kind": "text", "wrong_pattern": "a", "max_new_tokens": 4, "wrong": [1]},
        {"kind": "text", "wrong_pattern": "a", "max_new_tokens": 4, "position": 2},
        {"kind": "token", "wrong_pattern": "a"},
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


@pytest.mark.parametrize(
    ("wrong", "right", "outcomes"),
    [
        ("no", None, ("failed", "suppressed", "suppressed")),
        (None, "yes", ("failed", "fixed", "failed")),
        ("no", "yes", ("failed", "fixed", "suppressed")),
    ],
)
def test_texts_are_judged_by_patterns(wrong, right, outcomes) -> None:
    failure = Failure.text(wrong, right)
    texts = ("oh no", "yes indeed", "perhaps")
    assert tuple(failure.text_outcome(text, is_reference=False) for text in texts) == outcomes
    assert failure.text_fails(texts[0])
    if right is None:  # then only the reference tells what is right
        assert failure.text_outcome("yes indeed", is_reference=True) == "fixed"
    with pytest.raises(OutputError, match="continuation"):
        failure.score(np.zeros(2))
    with pytest.raises(OutputError, match="continuation"):
        failure.outcome(np.zeros(2))
    with pytest.raises(OutputError, match="answers of its own"):
        failure.with_answers([1], None)
    assert Failure.model_validate_json(failure.model_dump_json()) == failure


def test_a_pattern_that_takes_for_ever_is_stopped(monkeypatch) -> None:
    monkeypatch.setattr("model_forensics.failure.PATTERN_SECONDS", 0.01)
    with pytest.raises(OutputError, match="repetitions") as caught:
        Failure.text(r"(a|a|aa)+$").text_fails("a" * 60 + "b")
    assert "(a|a" not in str(caught.value)


def test_no_error_repeats_a_pattern() -> None:
    """It may be what a model answered, and errors go to logs and ledgers."""
    with pytest.raises(ValidationError) as caught:
        Failure.text("private (")
    faults = caught.value.errors(include_url=False, include_input=False, include_context=False)
    assert "no regular expression" in faults[0]["msg"]
    assert "private" not in str(faults)


@pytest.mark.parametrize(
    "pattern",
    [
        "((a{999}){999}){999}",
        "(?:a{50000}){50000}",
        "(?x)((a{999}) {999})(?#c){999}",
        "(?:" * 800 + "a" + ")*" * 800,
        "(?:" + "ab" * 1000 + "){1000}",
    ],
)
def test_patterns_that_take_gigabytes_to_compile_are_refused_uncompiled(monkeypatch, pattern) -> None:
    import regex

    def compiled(text: str) -> None:
        assert "{" not in text, "it is compiled"
        raise RecursionError

    monkeypatch.setattr(regex, "compile", compiled)
    with pytest.raises(ValidationError, match=r"repeats too often|too deep"):
        Failure.text(wrong=pattern, max_new_tokens=4)


@pytest.mark.parametrize(
    "pattern",
    [
        r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
        r"(\d{1,3}\.){3}\d{1,3}",
        r"(\d{4})-(\d{2})-(\d{2})T(\d{2}):(\d{2})",
        r"(?:very ){100}\w{1,2000}",
        "(" * 100 + "a" + ")" * 100,
    ],
)
def test_counted_repetitions_that_people_write(pattern) -> None:
    assert Failure.text(wrong=pattern, max_new_tokens=4).wrong_pattern == pattern
