"""The page of a batch: counts, causes, failures, durations."""

from __future__ import annotations

from urllib.parse import quote

from model_forensics.report.markup import Child, Column, Markup, element, facts, join, table
from model_forensics.report.numbers import NOT_MEASURED, clean, duration, plural, rate
from model_forensics.report.page import render_page
from model_forensics.report.sections import section
from model_forensics.types import BatchSummary, IncidentGroup

_GROUPS = 100
_FAILURES = 200
_LINKS = 5
_KINDS = {
    "cause": "cause",
    "workaround": "workaround",
    "signature": "no cause; departs at",
    "unexplained": "no cause, nothing departs",
}
_VERDICTS = {
    "cause_found": "a cause",
    "workaround_found": "a workaround",
    "no_fix_found": "no fix",
    "not_reproduced": "failure not reproduced",
    "anomaly_located": "an anomaly, no cause tested",
    "nothing_anomalous": "nothing anomalous",
    "not_judged": "not judged",
}


def render_batch_html(summary: BatchSummary) -> str:
    """The summary as one HTML page with links to the results beside it; long lists are cut and say so."""
    done = summary.counts.get("done", 0)
    title = f"{plural(done, 'incident')} analysed"
    body = join([_opening(summary, title), _verdicts(summary), _groups(summary), _failures(summary), _run(summary)])
    return render_page(f"{title} · {clean(summary.directory)}", body)


def _opening(summary: BatchSummary, title: str) -> Markup:
    figures = [("Analysed", summary.counts.get("done", 0)), ("Something found", summary.found)]
    figures += [("Refused", summary.counts.get("refused", 0)), ("Poisoned", summary.counts.get("poisoned", 0))]
    if benign := summary.counts.get("benign", 0):
        figures.append(("Benign, passed over", benign))
    return element(
        "header",
        element("p", f"Batch · {clean(summary.directory)}", class_="eyebrow"),
        element("h1", title),
        element("p", _lead(summary), class_="lead"),
        element(
            "dl",
            *(
                element("div", element("dt", label), element("dd", f"{count:,}", class_="value"))
                for label, count in figures
            ),
            class_="figures",
        ),
    )


def _lead(summary: BatchSummary) -> str:
    if not summary.groups:
        return "No incident has a result."
    first = summary.groups[0]
    kinds = plural(len(summary.groups), "group")
    return f"They fall into {kinds}; the largest has {plural(first.count, 'incident')}: {_group_name(first)}."


def _verdicts(summary: BatchSummary) -> Markup | None:
    if not summary.verdicts:
        return None
    pairs = [(_VERDICTS[name], f"{count:,}") for name, count in summary.verdicts.items()]
    return section("verdicts", "Verdicts", facts(pairs))


def _groups(summary: BatchSummary) -> Markup | None:
    if not summary.groups:
        return None
    columns = [Column("Cause or signature"), Column("Incidents", True), Column("Anomaly score", True)]
    columns += [Column("Confidence", True), Column("Flip rate", True), Column("Results")]
    shown = summary.groups[:_GROUPS]
    rows = [
        [
            _group_name(group),
            f"{group.count:,}",
            _range(group.anomaly_score),
            _range(group.confidence),
            _range(group.flip_rate),
            _links(group),
        ]
        for group in shown
    ]
    caption = "Incidents with one cause or, where none was found, with one signature; the largest group first."
    if len(shown) < len(summary.groups):
        caption += f" {len(summary.groups) - len(shown):,} smaller ones are in summary.json."
    return section("groups", "Causes", table(columns, rows, name="causes", caption=caption))


def _group_name(group: IncidentGroup) -> str:
    if group.kind == "unexplained":
        return _VERDICTS.get(group.key, clean(group.key))
    return f"{_KINDS[group.kind]} {clean(group.key)}" if group.kind == "signature" else clean(group.key)


def _range(values: tuple[float, float] | None) -> Child:
    if values is None:
        return element("span", NOT_MEASURED, class_="absent")
    low, high = map(rate, values)
    return low if low == high else f"{low}–{high}"


def _links(group: IncidentGroup) -> Markup:
    shown = group.incidents[:_LINKS]
    links: list[Child] = []
    for name in shown:
        links += [element("a", clean(name, 60), href=f"results/{quote(name)}.json"), " "]
    if group.count > len(shown):
        links.append(f"and {group.count - len(shown):,} more")
    return join(links)


def _failures(summary: BatchSummary) -> Markup | None:
    if not summary.failures:
        return None
    shown = summary.failures[:_FAILURES]
    rows = [[clean(one.incident, 80), one.state, clean(one.error)] for one in shown]
    caption = "Refused: the bundle cannot be analysed. Poisoned: it ended the process that analysed it, twice."
    if len(shown) < len(summary.failures):
        caption += f" {len(summary.failures) - len(shown):,} more are in summary.json."
    columns = [Column("Incident"), Column("State"), Column("Why")]
    return section("failures", "Failures", table(columns, rows, name="failed", caption=caption))


def _run(summary: BatchSummary) -> Markup:
    spent = summary.durations
    times = [] if spent is None else [
        ("Time of all analyses", duration(spent.total)),
        ("One analysis, median", duration(spent.median)),
        ("95 % took at most", duration(spent.p95)),
        ("Longest", duration(spent.longest)),
    ]  # fmt: skip
    settings = [(clean(name), clean(value) if value else "none") for name, value in summary.settings.items()]
    pairs = [
        ("Started", summary.started_at.isoformat(sep=" ", timespec="seconds")),
        ("Finished", summary.finished_at.isoformat(sep=" ", timespec="seconds")),
        *times,
        ("Workers", f"{summary.workers:,} ({clean(summary.workers_reason)})"),
    ]
    return section("run", "The run", facts(pairs), element("h3", "Settings"), facts(settings))
