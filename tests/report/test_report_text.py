"""The terminal summary: plain words, honest about nulls, safe to print."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_forensics.report import render_text
from model_forensics.report.numbers import clean, duration, labels, listing, number, probability, rate
from model_forensics.types import AnalysisResult, Intervention, SideEffects

MakeResult = Callable[..., AnalysisResult]

SAID = {
    "cause_found": "Cause: L2.mlp (transformer.h.2.mlp.c_proj).",
    "workaround_found": "Workaround, not a cause: zero L3.attn, mean L1.attn.",
    "no_fix_found": "none of the sets that were run removes it",
    "not_reproduced": "On replay, 0 of 12 samples fail.",
    "anomaly_located": "not what causes the failure",
    "nothing_anomalous": "None of 15 judged sites departs from the baseline.",
    "not_judged": "insufficient baseline: 3 groups, at least 5 are needed",
}


def flat(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("verdict", SAID)
def test_every_verdict_is_said_in_words(make_result: MakeResult, verdict: str) -> None:
    text = render_text(make_result(verdict))
    assert SAID[verdict] in flat(text)
    assert max(map(len, text.split("\n"))) <= 100
    assert not any(line != line.rstrip() for line in text.split("\n"))


@pytest.mark.parametrize("verdict", SAID)
def test_nulls_are_said_and_never_shown_as_numbers(make_result: MakeResult, verdict: str) -> None:
    text = render_text(make_result(verdict, bare=True))
    assert "not measured (no baseline was given)" in flat(text)
    assert " nan" not in text
    assert ": None" not in text


def test_the_cause_reads_as_one_statement(make_result: MakeResult) -> None:
    text = flat(render_text(make_result()))
    assert (
        "Replacing its output by the reference model's (patch) removes the failure in 12 of 12 held-out samples "
        "(95 % interval 0.73–1.00). Side effects: 0 of 40 benign outputs change (upper bound 0.09)"
    ) in text
    assert text.endswith("Re-run the proof: model-forensics validate-fix results.json --model models/damaged")


def test_in_sample_evidence_is_not_called_held_out(make_result: MakeResult) -> None:
    result = make_result()
    assert result.fix_set is not None
    text = flat(
        render_text(result.model_copy(update={"fix_set": result.fix_set.model_copy(update={"in_sample": True})}))
    )
    assert "held-out" not in text.split("Alternatives")[0]
    assert "the search saw the same samples" in text


def test_side_effects_that_exist_are_counted(make_result: MakeResult) -> None:
    result = make_result()
    assert result.fix_set is not None
    seen = result.fix_set.side_effects
    assert isinstance(seen, SideEffects)
    worse = seen.model_copy(update={"changed": 1, "changed_rate": 0.025})
    text = flat(
        render_text(result.model_copy(update={"fix_set": result.fix_set.model_copy(update={"side_effects": worse})}))
    )
    assert "1 of 40 benign outputs changes" in text


@pytest.mark.parametrize(
    ("kind", "said"),
    [("zero", "Setting its output to zero (zero)"), ("mean", "Replacing its output by its mean (mean)")],
)
def test_interventions_without_donor(make_result: MakeResult, kind: str, said: str) -> None:
    result = make_result()
    assert result.fix_set is not None
    fix = result.fix_set.model_copy(update={"interventions": (Intervention(site="L2.mlp", kind=kind),)})
    assert said in flat(render_text(result.model_copy(update={"fix_set": fix})))


@pytest.mark.parametrize("missing", ["fix_set", "workarounds"])
def test_a_contradictory_result_still_renders(make_result: MakeResult, missing: str) -> None:
    for verdict in ("cause_found", "workaround_found"):
        result = make_result(verdict).model_copy(update={"fix_set": None, "workarounds": (), "compression_metrics": ()})
        assert render_text(result)


def test_paths_are_quoted_for_the_shell(make_result: MakeResult) -> None:
    text = render_text(make_result().model_copy(update={"export_path": "my results; rm -rf x.json"}))
    assert "'my results; rm -rf x.json'" in text


@given(st.text(max_size=400))
def test_clean_text_is_printable_and_bounded(text: str) -> None:
    shown = clean(text, 100)
    assert len(shown) <= 100
    assert all(character.isprintable() or character.isspace() for character in shown)
    assert "\x1b" not in shown
    assert "\n" not in shown


def test_hostile_names_cannot_steer_the_terminal(make_result: MakeResult) -> None:
    result = make_result()
    rows = tuple(
        row.model_copy(update={"site": "\x1b[2J\r\n\u202e" + row.site, "module": "\x07" * 5})
        for row in result.compression_metrics
    )
    text = render_text(
        result.model_copy(
            update={"compression_metrics": rows, "bundle_id": "\x1b]0;x\x07", "warnings": ("a\nCause: L9.mlp\x1b[0m",)}
        )
    )
    assert all(character == "\n" or character.isprintable() for character in text)
    assert "\nCause: L9" not in text


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0.00"),
        (1.0, "1.00"),
        (0.9999, ">0.99"),
        (0.0001, "<0.01"),
        (0.5, "0.50"),
        (1.2, "1.20"),
        (None, "not measured"),
    ],
)
def test_shares_never_round_to_certainty(value: float | None, shown: str) -> None:
    assert rate(value) == shown


def test_numbers_in_words() -> None:
    assert [number(value) for value in (None, 0.0, 12345.6, 1e12, 0.00012345, float("inf"))] == [
        "not measured",
        "0",
        "12,346",
        "1.00e+12",
        "0.000123",
        "infinite",
    ]
    assert [probability(value) for value in (None, 0.2, 0.001234, 1e-9)] == [
        "not measured",
        "0.200",
        "0.0012",
        "<0.0001",
    ]
    assert [duration(value) for value in (0.81, 42, 185, 7800)] == ["0.81 s", "42 s", "3 min 5 s", "2 h 10 min"]
    assert listing(["a", "b", "c"]) == "a, b and c"


def test_long_names_keep_what_tells_them_apart() -> None:
    names = [f"model.encoder.blocks.{place}.inner.very_long_projection_name" for place in (2, 13)]
    assert labels(names, 20) == ["…2…", "…13…"]
    assert labels(["L2.mlp", *names], 20)[0] == "L2.mlp"
    assert all(len(label) <= 20 for label in labels(["x" * 50, "y" * 50, "a.b" * 30], 20))
    assert labels([], 20) == []
