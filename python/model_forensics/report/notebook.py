"""A result where a notebook shows it: the verdict, its figures and the foremost sites, in the notebook's own style."""

from __future__ import annotations

from model_forensics.report import evidence, verdict, words
from model_forensics.report.markup import Column, Markup, element, facts, join, table
from model_forensics.report.numbers import clean, fixed, interval, probability, rate
from model_forensics.types import AnalysisResult, FixSet

_LISTED_SITES = 8


def render_notebook(result: AnalysisResult) -> str:
    """A piece of HTML without style or script of its own, all text escaped; `render_html` has everything."""
    fix = verdict.leading(result)
    return element(
        "div",
        element("strong", verdict.headline(result)),
        element("p", " ".join(verdict.sentences(result))),
        _members(fix) if fix is not None else None,
        _onset(result),
        _sites(result, fix),
        _warnings(result),
    )


def _members(fix: FixSet) -> Markup:
    columns = (Column("site"), Column("kind"), Column("donor"), Column("necessity", numeric=True))
    rows = [
        (clean(one.site), one.kind, words.donor(one), evidence.necessity(fix, index))
        for index, one in enumerate(fix.interventions)
    ]
    title = "Fix set" if fix.label == "cause" else "Workaround"
    return join(
        [
            table(columns, rows, name="model-forensics-members", caption=title),
            facts([("Flip rate", f"{rate(fix.flip_rate)} ({interval(fix.flip_interval)})")]),
        ]
    )


def _onset(result: AnalysisResult) -> Markup | None:
    if result.onset is None:
        return None
    where = "already at the input" if result.onset.site == "input" else f"at {clean(result.onset.site)}"
    return element("p", f"The run first departs from the baseline {where}.")


def _sites(result: AnalysisResult, fix: FixSet | None) -> Markup | None:
    shown = [row for row in words.ranked(result) if row.rank_score is not None][:_LISTED_SITES]
    if not shown:
        return None
    members = set() if fix is None else {one.site for one in fix.interventions}
    onset = None if result.onset is None else result.onset.site
    rows = []
    for row in shown:
        marks = {"anomalous": row.is_anomalous, "onset": row.site == onset, "in the set": row.site in members}
        notes = ", ".join(mark for mark, there in marks.items() if there)
        rows.append((clean(row.site), fixed(row.anomaly_score, 1), probability(row.p_value), notes))
    columns = (Column("site"), Column("sigma", numeric=True), Column("p", numeric=True), Column(""))
    return table(columns, rows, name="model-forensics-sites", caption="Where the run departs most from the baseline")


def _warnings(result: AnalysisResult) -> Markup | None:
    lines = words.warnings(result, _LISTED_SITES)
    if not lines:
        return None
    return element("details", element("summary", "Warnings"), element("ul", *(element("li", line) for line in lines)))
