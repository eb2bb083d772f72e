"""The verdict of a result, in sentences."""

from __future__ import annotations

from model_forensics.report.numbers import NOT_MEASURED, clean, number, plural, rate
from model_forensics.report.words import (
    effect,
    failing,
    no_score_reason,
    removes,
    side_effects,
    site_named,
    sites_named,
    suppressed,
)
from model_forensics.types import AnalysisResult, FixSet, Verdict

_HEADLINES: dict[Verdict, str] = {
    "cause_found": "Cause found, but the fix set is missing from this result",
    "workaround_found": "Workaround, not a cause",
    "no_fix_found": "No fix found",
    "not_reproduced": "Not reproduced",
    "anomaly_located": "Anomaly; no cause was tested",
    "nothing_anomalous": "Nothing anomalous",
    "not_judged": "Not judged",
}


def headline(result: AnalysisResult) -> str:
    """The verdict in a few words, without a full stop."""
    fix = leading(result)
    where = result.onset or result.strongest
    if fix is not None and result.verdict == "cause_found":
        return f"Cause: {sites_named(result, fix)}"
    if fix is not None and result.verdict == "workaround_found":
        return f"Workaround, not a cause: {clean(str(fix))}"
    if where is not None and result.verdict == "anomaly_located":
        return f"Anomaly at {clean(where.site)}; no cause was tested"
    return _HEADLINES[result.verdict]


def sentences(result: AnalysisResult) -> list[str]:
    """The verdict explained: effect with its interval, side effects, what was not shown."""
    match result.verdict:
        case "cause_found" | "workaround_found":
            return _found(result)
        case "no_fix_found":
            return _no_fix(result)
        case "not_reproduced":
            return _not_reproduced(result)
        case "anomaly_located":
            return [
                *_departure(result),
                "No intervention was run, so this says where the run departs, not what causes the failure.",
            ]
        case "nothing_anomalous":
            return _nothing(result)
        case "not_judged":
            return [
                f"No site can be called anomalous or healthy: {no_score_reason(result)}.",
                *_ranked_only(result),
            ]


def leading(result: AnalysisResult) -> FixSet | None:
    """The set that the verdict is about."""
    if result.fix_set is not None:
        return result.fix_set
    if result.verdict == "workaround_found" and result.workarounds:
        return result.workarounds[0]
    return None


def _found(result: AnalysisResult) -> list[str]:
    fix = leading(result)
    if fix is None:
        return ["The result names no fix set, so there is nothing to re-run."]
    parts = [effect(fix), *suppressed(fix), side_effects(fix)]
    if result.verdict == "workaround_found":
        parts.append(
            "This removes the failure without restoring the computation "
            f"(recovery {rate(fix.recovery)}, explained away {rate(fix.explained_away)}), so it is not the cause."
        )
    parts.append(_confidence(result))
    return parts


def _no_fix(result: AnalysisResult) -> list[str]:
    spent, best = result.evidence.search, result.evidence.best_effect
    parts = ["The failure reproduces, and none of the sets that were run removes it."]
    if result.workarounds:
        parts = [
            "The failure reproduces, and whatever removes it carries in the answer of its donor, so that it would "
            "hide a fault anywhere before it. The fault may lie where no candidate is."
        ]
    if spent is not None:
        parts.append(
            f"{plural(spent.combinations, 'set')} from {plural(len(spent.pool), 'candidate site')} were run"
            + (", and the search ran out of time." if spent.timed_out else ".")
        )
    if best is not None:
        parts.append(f"The best one, {clean(str(best))}, is not sufficient: it {removes(best)}.")
    return [*parts, *_departure(result)]


def _not_reproduced(result: AnalysisResult) -> list[str]:
    replay = result.evidence.replay
    parts = ["The failure does not happen when the recorded inputs are run again, so no cause was searched for."]
    if replay is not None:
        parts.append(f"On replay, {failing(replay)}.")
    return [*parts, *_departure(result)]


def _nothing(result: AnalysisResult) -> list[str]:
    judged = sum(row.p_value is not None for row in result.compression_metrics)
    parts = [f"None of {plural(judged, 'judged site')} departs from the baseline." if judged else "No site was judged."]
    left = len(result.compression_metrics) - judged
    if left and judged:
        parts.append(f"{plural(left, 'further site')} could not be judged.")
    parts.append(
        f"The incident's anomaly score is {rate(result.anomaly_score)}; 0.80 would be at the threshold."
        if result.anomaly_score is not None
        else f"The incident's anomaly score was {NOT_MEASURED}: {no_score_reason(result)}."
    )
    return parts


def _ranked_only(result: AnalysisResult) -> list[str]:
    ranked_sites = sum(row.rank_score is not None for row in result.compression_metrics)
    if not ranked_sites:
        return []
    return [f"{plural(ranked_sites, 'site')} {'is' if ranked_sites == 1 else 'are'} ranked by the statistic alone."]


def _departure(result: AnalysisResult) -> list[str]:
    onset, strongest = result.onset, result.strongest
    parts = []
    if onset is not None:
        where = "already at the input" if onset.site == "input" else f"at {site_named(result, onset.site)}"
        parts.append(f"The run first departs from the baseline {where}, by {number(onset.sigma)} sigma.")
    if strongest is not None and (onset is None or strongest.site != onset.site):
        parts.append(
            f"It departs most at {site_named(result, strongest.site)}, by {number(strongest.sigma)} sigma."
            if onset is not None
            else f"The run departs most from the baseline at {site_named(result, strongest.site)}, "
            f"by {number(strongest.sigma)} sigma."
        )
    anomalous = sum(row.is_anomalous for row in result.compression_metrics)
    total = len(result.compression_metrics)
    if result.compression_metrics and result.anomaly_score is not None:
        parts.append(f"{anomalous:,} of {plural(total, 'site')} {'is' if anomalous == 1 else 'are'} anomalous.")
    return parts


def _confidence(result: AnalysisResult) -> str:
    return f"Confidence: {rate(result.confidence)}."
