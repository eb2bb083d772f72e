"""One self-contained HTML page: no script, no network, inline style and SVG."""

from __future__ import annotations

from model_forensics.report import sections, site_sections, verdict, words
from model_forensics.report.charts import interval_glyph
from model_forensics.report.markup import Child, Markup, element, facts, join
from model_forensics.report.numbers import (
    NOT_MEASURED,
    clean,
    duration,
    interval,
    plural,
    probability,
    rate,
    size,
)
from model_forensics.report.page import render_page
from model_forensics.types import AnalysisResult

_LISTED_WARNINGS = 30

REPORT_ROLE = "report"
"""What an encrypted report opens as; see `files.write_protected`."""


def render_html(result: AnalysisResult) -> str:
    """The whole result as one HTML page, under 1 MB whatever the number of sites and tokens.

    Its first lines name this program, by which `rekey` knows a report. It loads nothing from anywhere, has a light, a
    dark and a print form, and carries text beside every chart.
    Every string of the result is escaped; hidden characters are written as `\\u{…}`.
    """
    body = join(
        [
            _opening(result),
            _warnings(result),
            _incident(result),
            sections.fix_set(result),
            site_sections.departures(result),
            site_sections.ranking(result),
            site_sections.entropy(result),
            sections.other_sets(result),
            sections.checks(result),
            _environment(result),
        ]
    )
    return render_page(f"{verdict.headline(result)} · {clean(result.bundle_id)}", body)


def _opening(result: AnalysisResult) -> Markup:
    title = verdict.headline(result)
    links = [("incident", "Incident"), ("fix", "Fix set"), ("map", "Where it departs"), ("sites", "Sites")]
    links += [("entropy", "Entropy"), ("others", "Other sets"), ("checks", "Checks"), ("again", "Run it again")]
    return element(
        "header",
        element("p", f"Root cause report · {clean(result.bundle_id)}", class_="eyebrow"),
        element("h1", title, class_="long" if len(title) > 70 else None),
        element("p", " ".join(verdict.sentences(result)), class_="lead"),
        _key_figures(result),
        element("nav", *(element("a", label, href=f"#{name}") for name, label in links), aria_label="Contents"),
    )


def _key_figures(result: AnalysisResult) -> Markup:
    fix = verdict.leading(result)
    figures = [
        _anomaly_figure(result),
        _figure("Confidence", None if result.confidence is None else rate(result.confidence)),
    ]
    if fix is not None:
        seen = fix.side_effects
        figures = [
            _figure(
                "Flip rate",
                rate(fix.flip_rate),
                interval_glyph(fix.flip_rate, fix.flip_interval),
                interval(fix.flip_interval),
            ),
            _figure(
                "Side effects",
                None if seen is None else f"{seen.changed:,} of {seen.samples:,}",
                "no benign samples were run" if seen is None else f"benign outputs change; {interval(seen.interval)}",
            ),
            _figure(
                "Recovery",
                None if fix.recovery is None else rate(fix.recovery),
                "no donor run" if fix.recovery is None else "1 is the donor's score",
            ),
            *figures[::-1],
        ]
    elif result.evidence.replay is not None:
        replay = result.evidence.replay
        figures.insert(0, _figure("Fail on replay", f"{replay.failing:,} of {replay.samples:,}", "samples"))
    if fix is None:
        anomalous = sum(row.is_anomalous for row in result.compression_metrics)
        total = len(result.compression_metrics)
        judged = any(row.p_value is not None for row in result.compression_metrics)
        figures.append(_figure("Anomalous sites", f"{anomalous:,} of {total:,}" if judged else None))
    return element("dl", *figures, class_="figures")


def _anomaly_figure(result: AnalysisResult) -> Markup:
    if result.anomaly_score is None:
        return _figure("Anomaly score", None, words.no_score_reason(result))
    p_value = "" if result.anomaly_p_value is None else f"; p\u00a0{probability(result.anomaly_p_value)}"
    return _figure("Anomaly score", rate(result.anomaly_score), f"0.80 is at the threshold{p_value}")


def _figure(label: str, value: str | None, *notes: Child) -> Markup:
    kind = "value" if value is not None else "value absent"
    said = [note if isinstance(note, Markup) else element("span", note, class_="note") for note in notes if note]
    return element("div", element("dt", label), element("dd", value or NOT_MEASURED, class_=kind), element("dd", *said))


def _warnings(result: AnalysisResult) -> Markup | None:
    lines = words.warnings(result, _LISTED_WARNINGS)
    if not lines:
        return None
    heading = element("h2", "Warnings")
    return element("section", heading, element("ul", *(element("li", line) for line in lines)), class_="callout")


def _incident(result: AnalysisResult) -> Markup:
    incident, model = result.incident, result.incident.model
    layers = "" if model is None or model.layers is None else f", {plural(model.layers, 'layer')}"
    width = "" if model is None or model.width is None else f", width {model.width:,}"
    return sections.section(
        "incident",
        "The incident",
        facts(
            [
                ("Bundle", _code(result.bundle_id)),
                ("Recorded at", incident.created_at.isoformat(sep=" ", timespec="seconds")),
                ("Path", _code(incident.path)),
                ("Failure", sections.optional(incident.failure, "the bundle states no failure")),
                ("Samples", f"{incident.samples:,} in {plural(incident.groups, 'group')}"),
                ("Recorded", f"{plural(incident.tokens, 'token')} at {plural(incident.sites, 'site')}"),
                ("Size", sections.optional(None if incident.bytes is None else size(incident.bytes))),
                ("Model", sections.optional(None if model is None else f"{clean(model.architecture)}{layers}{width}")),
                ("Model source", _code(None if model is None else model.source, "not recorded")),
                ("Weights digest", _code(None if model is None else model.weights_digest, "not recorded")),
            ]
        ),
    )


def _environment(result: AnalysisResult) -> Markup:
    environment = result.environment
    fix = verdict.leading(result)
    commands: list[Markup] = []
    if fix is not None:
        commands += [
            element("p", "This measures the fix set anew and exits with 0 if the proof holds, with 1 if it does not:"),
            element("pre", words.validate_command(result)),
        ]
    commands += [element("p", "This repeats the analysis:"), element("pre", words.analyze_command(result))]
    backends = ", ".join(f"{clean(name, 60)}: {clean(value, 60)}" for name, value in environment.backends.items())
    return sections.section(
        "again",
        "Run it again",
        *commands,
        facts(
            [
                ("Model Forensics", clean(environment.model_forensics)),
                ("Python", clean(environment.python)),
                ("Platform", clean(environment.platform)),
                ("NumPy", clean(environment.numpy)),
                ("PyTorch", sections.optional(environment.torch, "not used")),
                ("Transformers", sections.optional(environment.transformers, "not used")),
                ("Device", sections.optional(environment.device, "no model was run")),
                ("Threads", sections.optional(None if environment.threads is None else str(environment.threads))),
                ("Backends", sections.optional(backends or None)),
                ("Seed", str(environment.seed)),
                ("Time", duration(result.execution_time)),
                ("Model source", _code(environment.model_source)),
                ("Model factory", _code(environment.model_factory)),
                ("Weights digest", _code(environment.weights_digest)),
                ("Donor", _code(environment.donor_source)),
                ("Baseline", _code(environment.baseline_path)),
                ("Results file", _code(result.export_path)),
            ]
        ),
        element("h3", "Configuration"),
        element("pre", sections.configuration_text(environment.configuration)),
        element("p", f"Results schema {result.schema_version}.", class_="note"),
    )


def _code(text: str | None, reason: str = "not given") -> Markup:
    return sections.optional(None, reason) if text is None else element("code", clean(text))
