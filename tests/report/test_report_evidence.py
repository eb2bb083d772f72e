"""The evidence in words: every field is said, and a null says why it is one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from model_forensics.report import evidence, render_html, render_text
from model_forensics.report.numbers import NOT_MEASURED
from model_forensics.types import AnalysisResult, Certificate, CopyCheck, Execution, FixSet, Shuffled

MakeResult = Callable[..., AnalysisResult]

SAID = {
    "Minimality": "a single intervention; nothing smaller exists (24 candidates: every single one was run; 900 model"
    " rows in all)",
    "Finer parts": "L2.neuron64-79 at position 3: flip rate 1.00, with 0.02 of the bits; where the repair acts, not a"
    " claim of cause",
    "Other answers": "given the activations of another input, it brings that input's answer along in 2 of 24 checks",
    "Similar sets": "1 of 8 sets of the same kind, at most 2 layers away and within 2 times its bits, would do (95 %"
    " interval <0.01–0.53); flip rate 0.19 on average, 1.00 at most",
    "Reverse test": "what the failing model computes there makes the reference model fail in 11 of 12 samples (95 %"
    " interval 0.62–>0.99)",
    "Shuffled donors": "p = 0.050: 0 of 19 repeats of the search with shuffled donors did as well",
    "Agrees with onset": "yes",
}
SEARCHED = {
    "Candidate sites": "8: L0.attn, L0.mlp, L1.attn, L1.mlp, L2.attn, L2.mlp, L3.attn, L3.mlp; 5 less promising sites"
    " left out",
    "Estimated effects": "rank correlation 0.83 with the measured ones",
    "How rows were run": "1,100 of them from the first layer and token that they change on; up to 64 rows a batch,"
    " planned for 2 GiB",
}


def fix_of(result: AnalysisResult, **changes: Any) -> tuple[AnalysisResult, FixSet]:
    """The result with a changed fix set."""
    assert result.fix_set is not None
    fix = result.fix_set.model_copy(update=changes)
    return result.model_copy(update={"fix_set": fix}), fix


def said(result: AnalysisResult, **changes: Any) -> dict[str, str]:
    return dict(evidence.of_set(*fix_of(result, **changes)))


def test_everything_measured_is_said_on_both_pages(make_result: MakeResult) -> None:
    result = make_result()
    text = " ".join(render_text(result).split())
    page = render_html(result)
    pairs = said(result)
    for what, value in SAID.items():
        assert pairs[what] == value
        assert what in page
        assert what == "Agrees with onset" or value in text
    assert result.evidence.search is not None
    searched = dict(evidence.of_search(result.evidence.search))
    for what, value in SEARCHED.items():
        assert searched[what] == value
        assert what in page
        assert value in page
    assert "77 sets at 8 candidate sites in 1,234 model rows" in text


@pytest.mark.parametrize("what", ["Other answers", "Similar sets", "Reverse test", "Shuffled donors"])
def test_what_was_not_measured_says_why_and_leaves_the_terminal_alone(make_result: MakeResult, what: str) -> None:
    result = make_result(bare=True)
    assert said(result)[what].startswith(f"{NOT_MEASURED} (")
    assert what in render_html(result)
    assert what not in render_text(result)


def test_other_sets_are_not_held_against_sets_like_them(make_result: MakeResult) -> None:
    result = make_result()
    (other,) = result.alternatives
    other = other.model_copy(update={"shams": None})
    assert dict(evidence.of_set(result, other))["Similar sets"] == f"{NOT_MEASURED} (only of a result's fix set)"


@pytest.mark.parametrize(
    ("exhausted", "words"),
    [(0, "not even every single one was run"), (1, "every single one was run"), (3, "every set of up to 3 was run")],
)
def test_what_a_level_of_minimality_rests_on(make_result: MakeResult, exhausted: int, words: str) -> None:
    certificate = Certificate(candidates=24, exhausted=exhausted, forwards=5000)
    members = make_result("workaround_found").workarounds[0].interventions
    value = said(make_result(), certificate=certificate, interventions=members)["Minimality"]
    assert value == f"no smaller set within the searched pool works (24 candidates: {words}; 5,000 model rows in all)"


def test_a_copied_answer_is_said_with_what_lies_before(make_result: MakeResult) -> None:
    check = CopyCheck(checks=16, copied=16, upstream_flip_rate=1.0)
    value = said(make_result(), copy_check=check)["Other answers"]
    assert value.endswith(
        "in 16 of 16 checks; repairing everything before it instead removes the failure in 1.00 of the samples"
    )
    result = make_result()
    copied = result.workarounds[0].model_copy(update={"label": "answer_copied", "copy_check": check})
    with_copy = result.model_copy(update={"workarounds": (copied,)})
    for rendered, plain in (
        (render_text(with_copy), render_text(result)),
        (render_html(with_copy), render_html(result)),
    ):
        assert "copies its donor" in rendered
        assert "copies its donor" not in plain


def test_where_only_copies_remove_the_failure_there_is_no_fix_and_it_says_so(make_result: MakeResult) -> None:
    result = make_result("no_fix_found")
    copied = make_result().workarounds[0].model_copy(update={"label": "answer_copied"})
    only = result.model_copy(
        update={"workarounds": (copied,), "evidence": result.evidence.model_copy(update={"best_effect": None})}
    )
    text = " ".join(render_text(only).split())
    assert "whatever removes it carries in the answer of its donor" in text
    assert "none of the sets that were run removes it" not in text
    assert "every set that removes the failure copies its donor" in render_html(only)
    assert "none of the sets that were run removes it" in " ".join(render_text(result).split())


def test_too_few_repeats_are_no_p_value(make_result: MakeResult) -> None:
    value = said(make_result(), shuffled=Shuffled(repeats=3, as_good=1, p_value=None))["Shuffled donors"]
    assert value.startswith(NOT_MEASURED)
    assert "1 of 3 repeats" in value


def test_how_rows_were_run(make_result: MakeResult) -> None:
    whole = Execution(
        from_middle=False,
        reason="attention is not causal",
        rows_from_middle=0,
        max_batch_rows=8,
        memory_limit=None,
        halvings=2,
    )
    assert evidence.execution(whole) == (
        "through the whole model (attention is not causal); up to 8 rows a batch; memory ran out 2 times, and the batch"
        " was split"
    )
    assert evidence.execution(None) == NOT_MEASURED
    spent = make_result().evidence.search
    assert spent is not None
    none = spent.model_copy(update={"attribution_agreement": None, "left_out": 0})
    assert "every candidate was run" in dict(evidence.of_search(none))["Estimated effects"]
