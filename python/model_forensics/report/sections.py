"""The sections of the page between the verdict and the environment."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from model_forensics.report import evidence, verdict, words
from model_forensics.report.markup import Child, Column, Markup, element, facts, join, table
from model_forensics.report.numbers import (
    NOT_MEASURED,
    clean,
    middle,
    plural,
    rate,
)
from model_forensics.types import AnalysisResult, FixSet, Intervention, SiteMetrics

_LISTED_MEMBERS = 30
_LISTED_SETS = 20
_LISTED_FLAGS = 20


def section(name: str, title: str, *children: Child) -> Markup:
    return element("section", element("h2", title), *children, id=name)


def optional(text: str | None, reason: str = NOT_MEASURED) -> Markup:
    """The text, or in italics why there is none."""
    return element("span", reason, class_="absent") if text is None else element("span", clean(text))


def site_name(name: str) -> Markup:
    """A site's name in a table; short ones stay on one line."""
    return element("span", clean(name), class_="site" if len(name) > 24 else "site short")


def configuration_text(configuration: Mapping[str, Any]) -> str:
    """The configuration as indented JSON, at most 8,000 characters."""
    lines = json.dumps(configuration, indent=2, default=str, ensure_ascii=False).split("\n")
    return middle("\n".join(clean(line) for line in lines), 8000)


# --- the fix set ----------------------------------------------------------------------------------


def fix_set(result: AnalysisResult) -> Markup:
    """Members and evidence of the set that the verdict is about, or why there is none."""
    fix = verdict.leading(result)
    if fix is None:
        children: list[Child] = [element("p", _no_fix_reason(result), class_="absent")]
        best = result.evidence.best_effect
        if best is not None:
            children += [
                element("h3", "Best set seen, not sufficient"),
                _members(result, best),
                _evidence(result, best),
            ]
        return section("fix", "Fix set", *children)
    title = "Fix set" if fix.label == "cause" else "Workaround"
    return section("fix", title, _members(result, fix), element("h3", "Evidence"), _evidence(result, fix))


def _no_fix_reason(result: AnalysisResult) -> str:
    match result.verdict:
        case "no_fix_found" if result.workarounds:
            return "None: every set that removes the failure copies its donor's answer; they are listed below."
        case "no_fix_found":
            return "None: no set within the limits of the search removes the failure."
        case "not_reproduced":
            return "None: the failure does not happen on replay, so there was nothing to fix."
        case "cause_found" | "workaround_found":
            return "This result names no fix set."
    return "Not measured: no intervention was run, because the analysis had no model or the search was off."


def _members(result: AnalysisResult, fix: FixSet) -> Markup:
    rows = [
        (
            site_name(one.site),
            _module(result, one.site),
            element("span", one.kind, class_="short"),
            _donor(one),
            words.positions(one),
            evidence.necessity(fix, index),
        )
        for index, one in enumerate(fix.interventions[:_LISTED_MEMBERS])
    ]
    shown = "" if len(fix.interventions) <= _LISTED_MEMBERS else f" (the first {_LISTED_MEMBERS} are listed)"
    return table(
        [
            Column("Site"),
            Column("Module"),
            Column("Kind"),
            Column("Donor"),
            Column("Positions"),
            Column("Necessity", numeric=True, title="flip rate lost when this member is left out"),
        ],
        rows,
        name="members",
        caption=f"{plural(len(fix.interventions), 'intervention')}{shown}. "
        "Necessity is the flip rate lost when that member is left out.",
    )


def _module(result: AnalysisResult, site: str) -> Markup:
    module = words.module_of(result, site)
    if module is None:
        return optional(None, "not recorded")
    return optional(None, "the same") if module == site else element("code", clean(module))


def _donor(one: Intervention) -> Child:
    source = None if one.donor is None else one.donor.source
    return words.donor(one) if source is None else join([f"{words.donor(one)} ", element("code", clean(source))])


def _evidence(result: AnalysisResult, fix: FixSet) -> Markup:
    return facts((what, _measured(value)) for what, value in evidence.of_set(result, fix))


def _measured(value: str) -> Child:
    """The value, in italics where it says that nothing was measured."""
    return optional(None, value) if value.startswith(NOT_MEASURED) else value


def other_sets(result: AnalysisResult) -> Markup:
    """Alternatives and workarounds, each as measured."""
    fix = verdict.leading(result)
    if result.evidence.search is None and not (result.alternatives or result.workarounds or fix):
        return section("others", "Other sets that were run", optional(None, "Not measured: no search was run."))
    others = [one for one in result.workarounds if one is not fix]
    return section(
        "others",
        "Other sets that were run",
        element("h3", "Alternatives"),
        _sets(
            "alternatives",
            result.alternatives,
            "Different sets that also restore the right behaviour.",
            "None was found.",
        ),
        element("h3", "Workarounds"),
        _sets(
            "workarounds",
            others,
            "Sets that remove the failure without restoring the computation.",
            "None further was found.",
        ),
    )


def _sets(name: str, sets: Sequence[FixSet], meaning: str, none: str) -> Markup:
    if not sets:
        return element("p", none, class_="absent")
    rows = [
        (
            element("span", clean(str(one)), class_="site"),
            f"{one.flips:,} of {one.samples:,}",
            f"{rate(one.flip_interval.low)}–{rate(one.flip_interval.high)}",
            rate(one.recovery),
            rate(one.explained_away),
            "in-sample" if one.in_sample else "held out",
            NOT_MEASURED if one.side_effects is None else f"{one.side_effects.changed} of {one.side_effects.samples}",
            words.copied(one),
        )
        for one in sets[:_LISTED_SETS]
    ]
    shown = "" if len(sets) <= _LISTED_SETS else f" The first {_LISTED_SETS} of {len(sets):,}."
    columns = [
        Column("Interventions"),
        Column("Flips", numeric=True),
        Column("Interval", numeric=True),
        Column("Recovery", numeric=True),
        Column("Explained away", numeric=True),
        Column("Samples"),
        Column("Benign outputs changed", numeric=True),
        Column("Note"),
    ]
    return table(columns, rows, name=name, caption=f"{meaning}{shown}")


# --- checks ---------------------------------------------------------------------------------------


def checks(result: AnalysisResult) -> Markup:
    """Replay, search, model versions and integrity."""
    replay, spent = result.evidence.replay, result.evidence.search
    pairs: list[tuple[str, Child]] = [
        (
            "Replay",
            optional(None, words.no_replay_reason(result)) if replay is None else f"{words.replay_words(replay)}.",
        )
    ]
    if spent is None:
        pairs.append(("Search", optional(None, f"{NOT_MEASURED}: no search was run")))
    else:
        pairs += [(what, _measured(value)) for what, value in evidence.of_search(spent)]
    pairs.append(("Model versions", _version(result)))
    flagged = [row for row in result.compression_metrics if row.integrity.flags]
    return section("checks", "Checks", facts(pairs), element("h3", "Integrity"), _integrity(result, flagged))


def _version(result: AnalysisResult) -> Markup:
    difference = result.version_difference
    if difference is None:
        reason = "no baseline was given" if result.environment.baseline_path is None else "no difference is recorded"
        return optional(None, reason)
    tensors = "" if difference.tensors is None else f" Differing tensors: {evidence.site_list(difference.tensors)}."
    return element(
        "span",
        "The recording and the baseline come from models with different weights: ",
        element("code", clean(difference.recording_digest)),
        " and ",
        element("code", clean(difference.baseline_digest)),
        f".{tensors}",
    )


def _integrity(result: AnalysisResult, flagged: Sequence[SiteMetrics]) -> Markup:
    if not result.compression_metrics:
        return optional(None, f"{NOT_MEASURED}: no site was measured")
    if not flagged:
        return element("p", f"Nothing was flagged at any of {plural(len(result.compression_metrics), 'site')}.")
    rows = [
        (
            site_name(row.site),
            f"{row.integrity.nan:,}",
            f"{row.integrity.inf:,}",
            f"{row.integrity.values:,}",
            "; ".join(clean(flag, 160) for flag in row.integrity.flags[:6]),
        )
        for row in flagged[:_LISTED_FLAGS]
    ]
    columns = [Column("Site"), Column("NaN", numeric=True), Column("Inf", numeric=True)]
    columns += [Column("Values", numeric=True), Column("Flags")]
    shown = "" if len(flagged) <= _LISTED_FLAGS else f"; the first {_LISTED_FLAGS} are listed"
    return table(columns, rows, name="integrity", caption=f"{plural(len(flagged), 'site')} with a flag{shown}.")
