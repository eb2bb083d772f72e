"""The summary that a terminal shows: sentences first, then short tables."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from model_forensics.report import evidence, verdict, words
from model_forensics.report.numbers import NOT_MEASURED, clean, fixed, labels, middle, number, plural, probability, rate
from model_forensics.types import AnalysisResult, FixSet

WIDTH = 88
_LISTED_SITES = 8
_LISTED_SETS = 5
_LISTED_WARNINGS = 12
_LISTED_FLAGS = 5
_ALWAYS = ("Recovery", "Explained away", "Minimality")
_WHERE_MEASURED = ("Finer parts", "Other answers", "Similar sets", "Reverse test", "Shuffled donors")


def render_text(result: AnalysisResult) -> str:
    """The result in plain words, at most 88 columns wide where no single word is longer; no trailing newline.

    Control characters in names are shown escaped, so that a hostile bundle cannot steer the terminal.
    """
    fix = verdict.leading(result)
    blocks = [
        _wrapped(f"{verdict.headline(result)}."),
        _wrapped(" ".join(verdict.sentences(result))),
        _summary(result, fix),
    ]
    if fix is not None:
        blocks.append(_members(fix))
    if any(row.rank_score is not None or row.anomaly_score is not None for row in result.compression_metrics):
        blocks.append(_sites(result, fix))
    blocks += _integrity(result)
    blocks += _other_sets("Alternatives that also work", result.alternatives)
    blocks += _other_sets("Workarounds, not causes", [one for one in result.workarounds if one is not fix])
    blocks += _warnings(result)
    if fix is not None:
        blocks.append(f"Re-run the proof:\n  {words.validate_command(result)}")
    return "\n\n".join(blocks)


def _summary(result: AnalysisResult, fix: FixSet | None) -> str:
    incident = result.incident
    pairs = [
        (
            "Incident",
            f"{clean(result.bundle_id, 60)}: {plural(incident.samples, 'sample')}, "
            f"{plural(incident.tokens, 'token')}, {plural(incident.sites, 'site')}",
        ),
    ]
    if incident.failure is not None:
        pairs.append(("Failure", clean(incident.failure)))
    pairs.append(("Replay", _replay(result)))
    if fix is not None:
        pairs += [
            (what, value)
            for what, value in evidence.of_set(result, fix)
            if what in _ALWAYS or (what in _WHERE_MEASURED and not value.startswith((NOT_MEASURED, evidence.NONE)))
        ]
    if result.evidence.search is not None:
        pairs.append(("Search", evidence.searched(result.evidence.search)))
    pairs.append(("Onset", _onset(result)))
    pairs.append(("Anomaly score", _anomaly(result)))
    indent = max(len(what) for what, _ in pairs) + 4
    return "\n".join(_wrapped(value, f"  {what}".ljust(indent), " " * indent) for what, value in pairs)


def _replay(result: AnalysisResult) -> str:
    replay = result.evidence.replay
    return words.no_replay_reason(result) if replay is None else words.replay_words(replay)


def _onset(result: AnalysisResult) -> str:
    onset = result.onset
    if onset is None:
        return f"{NOT_MEASURED} ({words.no_score_reason(result)})" if result.anomaly_score is None else "none"
    return f"{clean(onset.site)} ({number(onset.sigma)} sigma, p {_p(onset.p_value)})"


def _anomaly(result: AnalysisResult) -> str:
    if result.anomaly_score is None:
        return f"{NOT_MEASURED} ({words.no_score_reason(result)})"
    p_value = "" if result.anomaly_p_value is None else f", p {_p(result.anomaly_p_value)}"
    return f"{rate(result.anomaly_score)}{p_value} (0.80 is at the threshold)"


def _p(value: float) -> str:
    shown = probability(value)
    return shown if shown.startswith("<") else f"= {shown}"


def _members(fix: FixSet) -> str:
    names = labels([one.site for one in fix.interventions], 24)
    rows = [
        (name, one.kind, words.donor(one), words.positions_short(one), evidence.necessity(fix, index))
        for index, (name, one) in enumerate(zip(names, fix.interventions, strict=True))
    ]
    title = "Fix set" if fix.label == "cause" else "Workaround"
    return _table(title, ("site", "kind", "donor", "positions", "necessity"), rows)


def _sites(result: AnalysisResult, fix: FixSet | None) -> str:
    metrics = result.compression_metrics
    members = {one.site for one in fix.interventions} if fix else set()
    judged = any(row.anomaly_score is not None for row in metrics)
    rows = []
    shown = words.ranked(result)[:_LISTED_SITES]
    names = labels([row.site for row in shown], 30)
    for place, (row, name) in enumerate(zip(shown, names, strict=True), start=1):
        notes = ["anomalous"] if row.is_anomalous else []
        if result.onset is not None and row.site == result.onset.site:
            notes.append("onset")
        if fix is not None and row.site in members:
            notes.append("fix set" if fix.label == "cause" else "workaround")
        scores = (
            (fixed(row.anomaly_score, 1), probability(row.p_value), probability(row.q_value_bh))
            if judged
            else (number(row.rank_score),)
        )
        rows.append((str(place), name, *scores, ", ".join(notes)))
    scores_head = ("sigma", "p", "q") if judged else ("statistic",)
    anomalous = sum(row.is_anomalous for row in metrics)
    limit = words.threshold(result)
    over = f"{anomalous:,} of {plural(len(metrics), 'site')} anomalous" + (
        f", above {number(limit)} sigma" if limit is not None else ""
    )
    title = (
        f"Most suspicious sites ({over})" if judged else f"Sites by their statistic ({words.no_score_reason(result)})"
    )
    return _table(title, ("rank", "site", *scores_head, "note"), rows)


def _other_sets(title: str, sets: Sequence[FixSet]) -> list[str]:
    if not sets:
        return []
    rows = [
        (
            middle(clean(str(fix)), 44),
            f"{fix.flips:,} of {fix.samples:,}",
            _range(fix),
            rate(fix.recovery),
            words.copied(fix),
        )
        for fix in sets[:_LISTED_SETS]
    ]
    more = "" if len(sets) <= _LISTED_SETS else f" (the first {_LISTED_SETS} of {len(sets):,})"
    head = ("interventions", "flips", "interval", "recovery", "note")
    kept = len(head) if any(row[-1] for row in rows) else len(head) - 1
    return [_table(f"{title}{more}", head[:kept], [row[:kept] for row in rows])]


def _range(fix: FixSet) -> str:
    return f"{rate(fix.flip_interval.low)}–{rate(fix.flip_interval.high)}"


def _warnings(result: AnalysisResult) -> list[str]:
    lines = words.warnings(result, _LISTED_WARNINGS)
    if not lines:
        return []
    return ["\n".join(["Warnings", *(_wrapped(line, "  - ", "    ") for line in lines)])]


def _integrity(result: AnalysisResult) -> list[str]:
    flagged = [row for row in result.compression_metrics if row.integrity.flags]
    if not flagged:
        return []
    lines = [
        _wrapped(f"{clean(row.site, 60)}: {clean('; '.join(row.integrity.flags))}", "  - ", "    ")
        for row in flagged[:_LISTED_FLAGS]
    ]
    more = f" (the first {_LISTED_FLAGS} of {len(flagged):,} sites)" if len(flagged) > _LISTED_FLAGS else ""
    return ["\n".join([f"Integrity{more}", *lines])]


def _table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns as wide as their longest cell, two spaces apart."""
    cells = [tuple(head), *rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    ]
    return "\n".join([title, *lines])


def _wrapped(text: str, first: str = "", rest: str = "") -> str:
    """Filled to `WIDTH`; a per-cent sign stays with its number."""
    filled = textwrap.fill(
        text.replace(" % ", "\u00a0%\u00a0"),
        WIDTH,
        initial_indent=first,
        subsequent_indent=rest,
        break_on_hyphens=False,
    )
    return filled.replace("\u00a0%\u00a0", " % ")
