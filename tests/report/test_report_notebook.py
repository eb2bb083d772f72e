"""What a notebook shows of a result."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from typing import get_args

import pytest
from pages import HOSTILE, Page

from model_forensics.report import render_notebook
from model_forensics.types import AnalysisResult, Verdict

MakeResult = Callable[..., AnalysisResult]


def shown(result: AnalysisResult) -> Page:
    html = result._repr_html_()
    assert html == render_notebook(result)
    return Page(html)


@pytest.mark.parametrize("bare", [False, True], ids=["full", "nulls"])
@pytest.mark.parametrize("verdict", get_args(Verdict))
def test_every_verdict_is_a_well_formed_piece(make_result: MakeResult, verdict: str, bare: bool) -> None:
    page = shown(make_result(verdict, bare=bare))
    assert re.search(r"\bNone\b(?! of )", page.text) is None
    assert {tag for tag, _ in page.tags}.isdisjoint({"html", "head", "style", "script", "link", "iframe"})


def test_the_cause_comes_first_then_where_the_run_departs(make_result: MakeResult) -> None:
    text = shown(make_result()).text
    for said in (
        "Cause: L2.mlp (transformer.h.2.mlp.c_proj)",
        "removes the failure in 12 of 12 held-out samples",
        "Fix set",
        "Where the run departs most from the baseline",
    ):
        assert said in text, said
        text = text[text.index(said) :]


def test_hostile_strings_stay_text(make_result: MakeResult) -> None:
    result = make_result()
    rows = tuple(row.model_copy(update={"site": row.site + HOSTILE}) for row in result.compression_metrics)
    page = shown(result.model_copy(update={"compression_metrics": rows, "warnings": (HOSTILE,)}))
    assert "script" not in {tag for tag, _ in page.tags}
    assert "<script>alert(1)</script>" in page.text
    assert "\x1b" not in page.text


def test_the_types_alone_draw_nothing() -> None:
    code = "from model_forensics.types import AnalysisResult; print(AnalysisResult._shown)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
