"""The page: complete, self-contained, escaped, small, and honest about what was not measured."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
from pages import HOSTILE, LOADS, Page

from model_forensics.report import render_html
from model_forensics.report.charts import bin_profile
from model_forensics.report.heatmap import bin_profiles, largest_rows, scale_top, shades
from model_forensics.report.markup import Markup, element
from model_forensics.types import AnalysisResult, Verdict

VERDICTS = get_args(Verdict)
LIMIT = 1_000_000
MakeResult = Callable[..., AnalysisResult]


@pytest.mark.parametrize("bare", [False, True], ids=["full", "nulls"])
@pytest.mark.parametrize("verdict", VERDICTS)
def test_every_verdict_is_a_well_formed_page(make_result: MakeResult, verdict: str, bare: bool) -> None:
    html = render_html(make_result(verdict, bare=bare))
    page = Page(html)
    assert html.startswith("<!DOCTYPE html>")
    assert [tag for tag, _ in page.tags].count("h1") == 1
    assert len(html.encode()) < LIMIT
    for tag, attributes in page.tags:
        if tag == "a":
            assert (attributes["href"] or "").removeprefix("#") in page.ids
    assert re.search(r"\bNone\b(?!: | was found| further was| of )", page.text) is None
    assert "nan" not in re.findall(r"\w+", page.text)
    if bare:
        assert "not measured" in page.text


@pytest.mark.parametrize("verdict", VERDICTS)
def test_the_page_loads_nothing(make_result: MakeResult, verdict: str) -> None:
    html = render_html(make_result(verdict))
    for forbidden in LOADS:
        assert forbidden not in html, forbidden
    assert "default-src 'none'" in html
    assert not any(name.startswith("on") for _, attributes in Page(html).tags for name in attributes)


def test_the_cause_is_said_first_and_completely(make_result: MakeResult) -> None:
    text = Page(render_html(make_result())).text
    for said in (
        "Cause: L2.mlp (transformer.h.2.mlp.c_proj)",
        "Replacing its output by the reference model's (patch) removes the failure in 12 of 12 held-out samples",
        "Side effects: 0 of 40 benign outputs change",
        "model-forensics validate-fix results.json --model models/damaged",
        "bit for bit",
        "patch L3.mlp",
        "zero L3.attn, mean L1.attn",
    ):
        assert said in text, said


def test_heat_map_marks_onset_and_fix_and_has_text_beside_it(make_result: MakeResult) -> None:
    page = Page(render_html(make_result()))
    assert "onset, fix" in page.text
    assert "The rows with the largest cells" in page.text
    for tag, attributes in page.tags:
        assert tag != "svg" or attributes.get("role") == "img" or attributes.get("aria-hidden") == "true"


def test_the_largest_recording_stays_small_and_states_its_binning(large_result: AnalysisResult) -> None:
    html = render_html(large_result)
    assert len(html.encode()) < LIMIT
    text = Page(html).text
    assert "3 consecutive sites a row and 4 tokens a column" in text
    assert "30 of 437 sites" in text


def test_the_worst_case_heat_map_stays_small(large_result: AnalysisResult) -> None:
    """Noise in every cell cannot be run-length coded."""
    generator = np.random.default_rng(1)
    rows = tuple(
        row.model_copy(
            update={
                "token_profile": tuple((2.0 ** generator.uniform(-6, 5, 512)).tolist()),
                "entropy_profile": tuple(generator.uniform(0, 8, 5000).tolist()),
            }
        )
        for row in large_result.compression_metrics
    )
    assert len(render_html(large_result.model_copy(update={"compression_metrics": rows})).encode()) < LIMIT


def test_one_site_one_token(make_result: MakeResult) -> None:
    result = make_result()
    row = result.compression_metrics[8].model_copy(update={"token_profile": (0.5,), "entropy_profile": (2.0,)})
    Page(render_html(result.model_copy(update={"compression_metrics": (row,)})))
    Page(render_html(result.model_copy(update={"compression_metrics": ()})))
    empty = row.model_copy(update={"token_profile": (), "entropy_profile": ()})
    Page(render_html(result.model_copy(update={"compression_metrics": (empty,)})))
    unmeasured = row.model_copy(update={"token_profile": (None, None, 1e308), "entropy_profile": (0.0,)})
    Page(render_html(result.model_copy(update={"compression_metrics": (unmeasured,)})))


def test_hostile_strings_stay_text(make_result: MakeResult) -> None:
    result = make_result("cause_found")
    rows = tuple(
        row.model_copy(
            update={
                "site": row.site + HOSTILE,
                "module": HOSTILE,
                "not_judged": HOSTILE,
                "methods": {HOSTILE: row.methods["zlib"]},
                "integrity": row.integrity.model_copy(update={"flags": (HOSTILE,)}),
            }
        )
        for row in result.compression_metrics
    )
    fix = result.fix_set
    assert fix is not None
    bad = result.model_copy(
        update={
            "bundle_id": HOSTILE,
            "compression_metrics": rows,
            "warnings": (HOSTILE,),
            "export_path": HOSTILE,
            "fix_set": fix.model_copy(
                update={"interventions": (fix.interventions[0].model_copy(update={"site": "L2.mlp" + HOSTILE}),)}
            ),
            "environment": result.environment.model_copy(
                update={"configuration": {HOSTILE: HOSTILE}, "backends": {HOSTILE: HOSTILE}, "platform": HOSTILE}
            ),
            "incident": result.incident.model_copy(update={"path": HOSTILE, "failure": HOSTILE}),
        }
    )
    html = render_html(bad)
    page = Page(html)
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "img"})
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    for hidden in ("\x00", "\x1b", "\u202e"):
        assert hidden not in html
    assert "<script>alert(1)</script>" in page.text
    assert "${title}$style" in page.text  # the template does not fill in what a string contains


def test_long_strings_are_shortened_and_the_page_stays_small(large_result: AnalysisResult) -> None:
    long = "'\u202e" * 20_000
    rows = tuple(
        row.model_copy(
            update={
                "site": f"{place}{long}",
                "module": long,
                "not_judged": long,
                "integrity": row.integrity.model_copy(update={"flags": (long,) * 50}),
            }
        )
        for place, row in enumerate(large_result.compression_metrics)
    )
    fix = large_result.fix_set
    assert fix is not None
    one = fix.interventions[0].model_copy(update={"site": long, "positions": tuple(range(5000))})
    many = fix.model_copy(update={"interventions": (one,) * 500, "necessity": ()})
    bad = large_result.model_copy(
        update={
            "compression_metrics": rows,
            "fix_set": many,
            "alternatives": (many,) * 200,
            "workarounds": (many,) * 200,
            "warnings": (long,) * 1000,
            "environment": large_result.environment.model_copy(update={"configuration": {long: long}}),
        }
    )
    html = render_html(bad)
    Page(html)
    assert len(html.encode()) < LIMIT


def test_binning_keeps_the_largest_value(make_result: MakeResult) -> None:
    template = make_result().compression_metrics[0]
    profiles = np.random.default_rng(0).normal(0, 0.01, (437, 513))
    profiles[301, 512] = 40.0
    rows = [
        template.model_copy(update={"site": f"s{place}", "token_profile": tuple(profile.tolist())})
        for place, profile in enumerate(profiles)
    ]
    grid = bin_profiles(rows)
    assert grid.values.shape == (146, 103)
    assert sum(len(sites) for sites in grid.sites) == 437
    assert largest_rows(grid, 1) == [("s300 … s302", "510–512", 40.0)]
    assert scale_top(grid) == 64.0
    assert (shades(grid, 64.0) == 5).sum() == 1


def test_profiles_of_unequal_length_and_nulls_are_not_measured(make_result: MakeResult) -> None:
    template = make_result().compression_metrics[0]
    rows = [
        template.model_copy(update={"token_profile": profile})
        for profile in ((0.1, None, 2.0), (0.2,), None, (None, None, None))
    ]
    grid = bin_profiles(rows)
    assert grid.values.shape == (3, 3)
    assert np.isnan(grid.values).tolist() == [[False, True, False], [False, True, True], [True, True, True]]
    assert (shades(grid, 2.0) == -1).sum() == 6


def test_noise_alone_stays_pale(make_result: MakeResult) -> None:
    grid = bin_profiles(make_result("nothing_anomalous").compression_metrics)
    assert shades(grid, scale_top(grid)).max() <= 2


def test_entropy_binning_keeps_extremes() -> None:
    values = [3.0] * 1000
    values[777] = 0.5
    profile = bin_profile(values)
    assert profile.mean.size <= 200
    assert profile.low.min() == 0.5
    assert profile.high.max() == 3.0
    assert profile.windows == 1000


def test_strings_are_escaped_unless_they_are_markup() -> None:
    assert element("p", "<b>", title='"') == '<p title="&quot;">&lt;b&gt;</p>'
    assert element("p", Markup("<b></b>"), None) == "<p><b></b></p>"
