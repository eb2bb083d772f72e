"""Pages of comparisons and batches: well formed, hostile strings escaped, and nothing is loaded from anywhere."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from pages import HOSTILE, LOADS, Page

from model_forensics.report import render_comparison_html, render_comparison_text
from model_forensics.report.batch import render_batch_html
from model_forensics.types import (
    BatchSummary,
    ComparedSection,
    Comparison,
    Difference,
    Durations,
    IncidentFailure,
    IncidentGroup,
)


def comparison(text: str, *, rows: int = 2) -> Comparison:
    values = (text, None, True, 3, 0.25)
    listed = tuple(
        Difference(key=f"{text}{number}", left=values[number % 5], right=values[(number + 1) % 5])
        for number in range(rows)
    )
    sections = (
        ComparedSection(title="Finding", compared=rows, differences=listed),
        ComparedSection(title="Sites", compared=4, differences=()),
        ComparedSection(title="Weights", compared=0, differences=(), note=text),
        ComparedSection(title="Where and when", compared=2, differences=listed[:1], counts=False),
    )
    return Comparison(kind="bundles", left=text, right=text, differ=rows > 0, sections=sections)


def summary(text: str) -> BatchSummary:
    groups = tuple(
        IncidentGroup(
            kind=kind, key=text, count=7, incidents=(text, "b"), anomaly_score=scores, confidence=None, flip_rate=None
        )
        for kind, scores in (("cause", (0.1, 0.9)), ("signature", None), ("unexplained", (0.5, 0.5)))
    )
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    return BatchSummary(
        directory=text, output=text, started_at=moment, finished_at=moment, workers=2, workers_reason=text,
        counts={"done": 3, "refused": 1}, verdicts={"cause_found": 3}, groups=groups,
        failures=(IncidentFailure(incident=text, state="refused", error=text),),
        durations=Durations(total=9.0, median=3.0, p95=4.0, longest=5.0), settings={text: text, "model": None},
    )  # fmt: skip


@pytest.mark.parametrize("html", [render_comparison_html(comparison("a")), render_batch_html(summary("a"))])
def test_a_page_is_well_formed_and_loads_nothing(html):
    page = Page(html)
    assert html.startswith("<!DOCTYPE html>")
    assert [tag for tag, _ in page.tags].count("h1") == 1
    assert [word for word in LOADS if word in html] == []
    assert "default-src 'none'" in html


@pytest.mark.parametrize("html", [render_comparison_html(comparison(HOSTILE)), render_batch_html(summary(HOSTILE))])
def test_hostile_strings_stay_text(html):
    page = Page(html)
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "img"})
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert all((attributes["href"] or "").startswith("results/") for tag, attributes in page.tags if tag == "a")
    assert not any(hidden in html for hidden in ("\x00", "\x1b", "\u202e"))
    assert "<script>alert(1)</script>" in page.text


def test_nothing_in_the_terminal_moves_the_cursor():
    text = render_comparison_text(comparison(HOSTILE + "\n\r\t"))
    assert not any(hidden in text for hidden in ("\x00", "\x1b", "\u202e", "\r", "\t"))
    assert text.count("\n") == render_comparison_text(comparison("a")).count("\n")


def test_what_is_left_out_is_counted():
    many = comparison("a", rows=3000)
    assert "and 2,980 more" in render_comparison_text(many)
    html = render_comparison_html(many)
    assert "1,000 more are in the JSON" in html
    assert len(html) < 1_000_000
    agreeing = comparison("a", rows=0)
    assert "The two bundles agree" in Page(render_comparison_html(agreeing)).text
