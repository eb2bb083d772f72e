"""The sections of the page on what forensics saw: the heat map, the ranked sites, the entropy profiles."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from model_forensics.report import charts, heatmap, verdict, words
from model_forensics.report.markup import Child, Column, Markup, element, facts, table
from model_forensics.report.numbers import NOT_MEASURED, clean, fixed, labels, listing, number, plural, probability
from model_forensics.report.sections import optional, section
from model_forensics.types import AnalysisResult, SiteMetrics

_LISTED_SITES = 30
_LISTED_METHODS = 5
_CHARTS = 6


def departures(result: AnalysisResult) -> Markup:
    """Onset, strongest site and the heat map."""
    title = "Where the run departs from the baseline"
    pairs: list[tuple[str, Child]] = []
    for label, found in (("Onset", result.onset), ("Strongest", result.strongest)):
        if found is None:
            reason = words.no_score_reason(result) if result.anomaly_score is None else "no site departs"
            pairs.append(
                (label, optional(None, f"{NOT_MEASURED if result.anomaly_score is None else 'none'}: {reason}"))
            )
        else:
            value = (
                f"{words.site_named(result, found.site)}, {number(found.sigma)} sigma, p {probability(found.p_value)}"
            )
            pairs.append((label, value))
    return section("map", title, facts(pairs), _heat_map(result))


def _heat_map(result: AnalysisResult) -> Markup:
    metrics = result.compression_metrics
    with_profile = sum(bool(row.token_profile) for row in metrics)
    if not with_profile:
        return element("p", f"Heat map {NOT_MEASURED}: {words.no_score_reason(result)}.", class_="absent")
    grid = heatmap.bin_profiles(metrics)
    marks = _marks(result)
    anomalous = frozenset(row.site for row in metrics if row.is_anomalous)
    cells = [
        (element("span", sites, class_="site"), tokens, fixed(bits, 2))
        for sites, tokens, bits in heatmap.largest_rows(grid, 5)
    ]
    left_out = len(metrics) - with_profile
    caption = (
        "Mean excess bits per token over what the baseline expects, first sample; sites in execution order from top to "
        f"bottom. {_binning(grid)} Each shade covers twice the range of the one before. "
        "A dot marks rows with an anomalous site."
        + (f" {plural(left_out, 'site')} without a token profile left out." if left_out else "")
    )
    return element(
        "div",
        element(
            "figure",
            element("figcaption", caption),
            heatmap.legend(grid),
            element("div", heatmap.render(grid, marks=marks, anomalous=anomalous), class_="heat"),
        ),
        table(
            [Column("Site"), Column("Tokens", numeric=True), Column("Excess bits", numeric=True)],
            cells,
            name="largest",
            caption="The rows with the largest cells, and the tokens where these are.",
        ),
    )


def _binning(grid: heatmap.Grid) -> str:
    parts = []
    if grid.sites_per_row > 1:
        parts.append(f"{grid.sites_per_row} consecutive sites a row")
    if grid.tokens_per_column > 1:
        parts.append(f"{grid.tokens_per_column} tokens a column")
    return f"Binned: {' and '.join(parts)}; a cell shows its largest value." if parts else "Not binned."


def _marks(result: AnalysisResult) -> dict[str, str]:
    marks: dict[str, list[str]] = {}
    fix = verdict.leading(result)
    if result.onset is not None:
        marks.setdefault(result.onset.site, []).append("onset")
    if fix is not None:
        for one in fix.interventions:
            marks.setdefault(one.site, []).append("fix" if fix.label == "cause" else "workaround")
    if result.strongest is not None and result.strongest.site not in marks:
        marks.setdefault(result.strongest.site, []).append("strongest")
    return {site: ", ".join(dict.fromkeys(said)) for site, said in marks.items()}


def ranking(result: AnalysisResult) -> Markup:
    """The most suspicious sites with score, p, q, methods and integrity flags; columns without a value are left out."""
    title = "Sites, most suspicious first"
    shown = words.ranked(result)[:_LISTED_SITES]
    if not shown:
        return section("sites", title, optional(None, "No site was measured."))
    marks = _marks(result)
    unjudged = all(row.p_value is None for row in result.compression_metrics)
    common = words.no_score_reason(result) if unjudged else None  # said once, above the table
    columns: list[tuple[Column, list[Child]]] = [
        (Column("Rank", numeric=True), [str(place) for place in range(1, len(shown) + 1)]),
        (Column("Site"), _site_names(shown)),
    ]
    figures = [
        ("Sigma", [fixed(row.anomaly_score, 1) for row in shown]),
        ("p", [probability(row.p_value) for row in shown]),
        ("q BH", [probability(row.q_value_bh) for row in shown]),
        ("q BY", [probability(row.q_value_by) for row in shown]),
        ("Statistic", [fixed(row.rank_score, 2) for row in shown]),
    ]
    methods = list(dict.fromkeys(name for row in shown for name in row.methods))[:_LISTED_METHODS]
    for name in methods:
        sigmas = [row.methods[name].sigma if name in row.methods else None for row in shown]
        figures.append((clean(name, 40), [fixed(sigma, 1) for sigma in sigmas]))
    columns += [
        (Column(label, numeric=True), [_short(text) for text in texts])
        for label, texts in figures
        if any(text != NOT_MEASURED for text in texts)
    ]
    columns.append((Column("Notes"), [_notes(row, marks, common) for row in shown]))
    return section(
        "sites",
        title,
        table(
            [column for column, _ in columns],
            zip(*(cells for _, cells in columns), strict=True),
            name="ranking",
            caption=_ranking_caption(result, len(shown), methods),
            row_classes=["marked" if row.site in marks else "" for row in shown],
        ),
    )


def _site_names(rows: Sequence[SiteMetrics]) -> list[Child]:
    names = [row.site for row in rows]
    return [
        element("span", label, class_="site short", title=None if label == name else clean(name))
        for name, label in zip(names, labels(names, 32), strict=True)
    ]


def _ranking_caption(result: AnalysisResult, shown: int, methods: Sequence[str]) -> str:
    metrics = result.compression_metrics
    anomalous = sum(row.is_anomalous for row in metrics)
    limit = words.threshold(result)
    parts = [f"{shown} of {plural(len(metrics), 'site')}; all are in the results file."]
    if any(row.p_value is not None for row in metrics):
        above = "" if limit is None else f" (above {number(limit)} sigma)"
        parts.append(
            f"{anomalous:,} anomalous{above}. Sigma is the equivalent of the calibrated p-value; q is controlled by "
            "Benjamini–Hochberg (BH) and, under any dependence, Benjamini–Yekutieli (BY)."
        )
    else:
        parts.append(f"Scores and p-values were not measured: {words.no_score_reason(result)}.")
    if any(row.rank_score is not None for row in metrics):
        parts.append("The statistic ranks sites where no p-value is possible.")
    if methods:
        parts.append(f"Under {listing([clean(name, 40) for name in methods])} stands the sigma of that method alone.")
    return " ".join(parts)


def _notes(row: SiteMetrics, marks: Mapping[str, str], common: str | None) -> Markup:
    said = [clean(flag, 120) for flag in row.integrity.flags[:3]]
    if row.not_judged is not None and clean(row.not_judged) != common:
        said.append(f"not judged: {clean(row.not_judged, 160)}")
    tags = [element("span", word, class_="tag") for word in marks.get(row.site, "").split(", ") if word]
    if row.is_anomalous:
        tags.append(element("span", "anomalous", class_="tag"))
    return element("span", *tags, "; ".join(said))


def _short(text: str) -> Child:
    return element("span", text, class_="absent") if text == NOT_MEASURED else text


def entropy(result: AnalysisResult) -> Markup:
    """Entropy of consecutive windows at the worst sites that have a profile, on one scale."""
    title = "Entropy profile of the worst sites"
    found = [row for row in words.ranked(result) if row.entropy_profile][:_CHARTS]
    profiles = [(row, charts.bin_profile(row.entropy_profile or ())) for row in found]
    if not profiles:
        return section("entropy", title, optional(None, f"Entropy profiles {NOT_MEASURED}."))
    highest = max((value for _, one in profiles for value in one.high.tolist() if math.isfinite(value)), default=1.0)
    top = float(max(1, math.ceil(highest)))
    figures = []
    for row, profile in profiles:
        low, mean, high = (fixed(value, 2) for value in _range(row.entropy_profile or ()))
        levels = f"{low} to {high}, mean {mean} bits per symbol"
        score = "no score" if row.anomaly_score is None else f"{fixed(row.anomaly_score, 1)} sigma"
        binned = f", {profile.windows_per_point} a point" if profile.windows_per_point > 1 else ""
        figures.append(
            element(
                "figure",
                element(
                    "figcaption",
                    element("span", clean(row.site), class_="name site"),
                    levels,
                    element("br"),
                    f"{plural(profile.windows, 'window')}{binned}; {score}",
                ),
                charts.entropy_chart(profile, top, f"{clean(row.site)}: {levels}"),
            )
        )
    note = (
        "Shannon entropy, bits per symbol, of consecutive windows over the site's quantised values; all charts have "
        "the same scale. Where several windows share a point, the line is their mean and the band reaches from the "
        "lowest to the highest."
    )
    return section("entropy", title, element("p", note, class_="note"), element("div", *figures, class_="multiples"))


def _range(values: Sequence[float]) -> tuple[float, float, float]:
    return min(values), math.fsum(values) / len(values) if all(map(math.isfinite, values)) else math.nan, max(values)
