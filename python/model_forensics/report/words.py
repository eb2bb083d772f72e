"""What a result means, in sentences. The terminal summary and the page say the same words.

Every sentence is composed from measured fields; where a field is null, the sentence says that it was not measured.
"""

from __future__ import annotations

import shlex
from collections import Counter

from model_forensics.report.numbers import (
    NOT_MEASURED,
    clean,
    interval,
    listing,
    number,
    plural,
    rate,
)
from model_forensics.types import AnalysisResult, Donor, FixSet, Intervention, Replay, SiteMetrics

_DONORS = {
    "benign_mean": "mean over benign samples",
    "benign_sample": "benign sample",
    "contrast": "contrast input",
    "reference_model": "reference model",
    "given": "given values",
}


# --- interventions and their effect --------------------------------------------------------------


def effect(fix: FixSet) -> str:
    """What the set does and how often it works, one sentence."""
    first = fix.interventions[0]
    alike = all(
        (one.kind, one.donor, one.positions) == (first.kind, first.donor, first.positions) for one in fix.interventions
    )
    if len(fix.interventions) == 1:
        subject = f"{_action(first, 'its output', 'its')} ({first.kind})"
    elif alike:
        subject = f"{_action(first, 'their outputs', 'their')} ({first.kind})"
    else:
        subject = f"Applying all {len(fix.interventions)} interventions ({clean(str(fix))})"
    return f"{subject} {removes(fix)}."


def removes(fix: FixSet) -> str:
    """The share of samples that flip, with its interval, as the end of a sentence."""
    samples = f"{fix.flips:,} of {plural(fix.samples, 'sample' if fix.in_sample else 'held-out sample')}"
    groups = "" if fix.groups == fix.samples else f" over {plural(fix.groups, 'group')}"
    seen = "; the search saw the same samples" if fix.in_sample else ""
    return f"removes the failure in {samples} ({interval(fix.flip_interval)}{groups}{seen})"


def _action(one: Intervention, subject: str, possessive: str) -> str:
    if one.kind == "zero":
        action = f"Setting {subject} to zero"
    elif one.kind == "mean":
        action = f"Replacing {subject} by {possessive} mean{_mean_over(one.donor)}"
    else:
        action = f"Replacing {subject} by {_whose(one.donor)}"
    return action if one.positions is None else f"{action} at {positions(one)}"


def _mean_over(donor: Donor | None) -> str:
    if donor is None:
        return ""
    return {
        "benign_mean": " over benign samples",
        "benign_sample": " over benign samples",
        "contrast": " over the contrast input",
        "reference_model": " over the reference model's run",
        "given": " over given values",
    }[donor.kind]


def _whose(donor: Donor | None) -> str:
    if donor is None:
        return "another run's"
    if donor.kind == "benign_sample" and donor.same_input:
        return "a benign run's on the same input"
    return {
        "benign_mean": "the mean over benign samples",
        "benign_sample": "a benign sample's",
        "contrast": "the contrast input's",
        "reference_model": "the reference model's",
        "given": "given values",
    }[donor.kind]


def positions(one: Intervention) -> str:
    """`all positions`, `position 7`, `positions 3, 4 and 9`, `14 positions from 3 to 40`."""
    places = one.positions
    if places is None:
        return "all positions"
    if not places:
        return "no position"
    if len(places) == 1:
        return f"position {places[0]}"
    if len(places) <= 6:
        return f"positions {listing([str(place) for place in places])}"
    return f"{len(places):,} positions from {min(places)} to {max(places)}"


def positions_short(one: Intervention) -> str:
    """`all`, `3, 4, 7`, or `14 from 3 to 40`: for a narrow column."""
    places = one.positions
    if places is None:
        return "all"
    if len(places) <= 3:
        return ", ".join(map(str, places)) or "none"
    return f"{len(places):,} from {min(places)} to {max(places)}"


def donor(one: Intervention) -> str:
    """Where the replacement comes from, for a table cell."""
    if one.donor is None:
        return "none" if one.kind == "zero" else "not recorded"
    return f"{_DONORS[one.donor.kind]}, {'same input' if one.donor.same_input else 'other input'}"


def copied(fix: FixSet) -> str:
    """A note on a set that merely brings its donor's answer along; empty for others."""
    return "copies its donor's answer" if fix.label == "answer_copied" else ""


def suppressed(fix: FixSet) -> list[str]:
    """A sentence on samples where the failure is gone without the right answer, if there are any."""
    if not fix.suppressed:
        return []
    return [
        f"In {plural(fix.suppressed, 'further sample')} the failure is gone, but the output is not shown to be right."
    ]


def side_effects(fix: FixSet) -> str:
    """What the set changes on benign samples, one sentence."""
    seen = fix.side_effects
    if seen is None:
        return f"Side effects: {NOT_MEASURED} (no benign samples were run)."
    text = (
        f"Side effects: {seen.changed:,} of {plural(seen.samples, 'benign output')} "
        f"{'changes' if seen.changed == 1 else 'change'} (upper bound {rate(seen.interval.high)})"
    )
    if seen.changed_without_fix:
        verb = "differs" if seen.changed_without_fix == 1 else "differ"
        text += f"; {seen.changed_without_fix:,} already {verb} from the recording without the fix"
    return text + "."


def sites_named(result: AnalysisResult, fix: FixSet) -> str:
    """All sites of a set, with their module paths when there is room."""
    names = [one.site for one in fix.interventions]
    if len(names) == 1:
        return site_named(result, names[0])
    return f"{listing([clean(name, 120) for name in names])} together"


def site_named(result: AnalysisResult, site: str) -> str:
    """`L2.mlp (transformer.h.2.mlp.c_proj)`; the name alone where no other path is known."""
    module = module_of(result, site)
    return clean(site) if module is None or module == site else f"{clean(site)} ({clean(module)})"


def module_of(result: AnalysisResult, site: str) -> str | None:
    return next((row.module for row in result.compression_metrics if row.site == site), None)


# --- replay, forensics ----------------------------------------------------------------------------


def replay_words(replay: Replay) -> str:
    """How the replay compares with the recording, without a full stop."""
    if replay.bit_identical:
        same = "The replayed outputs equal the recorded ones bit for bit"
    elif replay.reproduced:
        same = f"The replay reproduces the recorded outputs (largest difference {_relative(replay)})"
    else:
        same = f"The replay does not reproduce the recorded outputs (largest difference {_relative(replay)})"
    return f"{same}; {failing(replay)} on replay"


def failing(replay: Replay) -> str:
    """`12 of 12 samples fail`."""
    return f"{replay.failing:,} of {plural(replay.samples, 'sample')} {'fails' if replay.failing == 1 else 'fail'}"


def _relative(replay: Replay) -> str:
    return f"{number(replay.max_error, 2)} of the largest logit"


def no_score_reason(result: AnalysisResult) -> str:
    """Why there are no anomaly scores."""
    reasons = Counter(row.not_judged for row in result.compression_metrics if row.not_judged)
    if reasons:
        return clean(reasons.most_common(1)[0][0])
    if result.environment.baseline_path is None:
        return "no baseline was given"
    return "the baseline gives no score for this recording"


def no_replay_reason(result: AnalysisResult) -> str:
    environment = result.environment
    if environment.model_source is None and environment.model_factory is None and environment.weights_digest is None:
        return f"{NOT_MEASURED}: the analysis ran without a model"
    return NOT_MEASURED


def warnings(result: AnalysisResult, limit: int) -> list[str]:
    """At most `limit` warnings, then how many were left out; a difference between model versions comes first."""
    lines = [clean(warning, 600) for warning in result.warnings[:limit]]
    if result.version_difference is not None:
        lines.insert(0, "The recording and the baseline come from models with different weights.")
    if len(result.warnings) > limit:
        lines.append(f"{plural(len(result.warnings) - limit, 'further warning')}: see the results file.")
    return lines


# --- how the sites rank, how to run it again ------------------------------------------------------


def ranked(result: AnalysisResult) -> list[SiteMetrics]:
    """Sites, most suspicious first: by anomaly score, then by the statistic, then in execution order."""

    def key(row: SiteMetrics) -> tuple[bool, float, bool, float]:
        score, statistic = row.anomaly_score, row.rank_score
        return (score is None, -(score or 0.0), statistic is None, -(statistic or 0.0))

    return sorted(result.compression_metrics, key=key)


def threshold(result: AnalysisResult) -> float | None:
    """The configured anomaly threshold in sigma, where the configuration in the result names it."""
    value: object = result.environment.configuration
    for name in ("modules", "cf", "anomaly_threshold"):
        if not isinstance(value, dict) or name not in value:
            return None
        value = value[name]
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def validate_command(result: AnalysisResult) -> str:
    """The command that measures the fix set anew. MODEL stands where the model was passed as an object."""
    return _command(result, ["model-forensics", "validate-fix", result.export_path or "results.json"])


def analyze_command(result: AnalysisResult) -> str:
    """The command that repeats the analysis."""
    environment = result.environment
    words = ["model-forensics", "analyze", environment.incident_path or result.incident.path or "INCIDENT"]
    if environment.baseline_path is not None:
        words += ["--baseline", environment.baseline_path]
    if environment.donor_source is not None:
        words += ["--donor-model", environment.donor_source]
    without_model = environment.model_source is None and environment.weights_digest is None
    return _command(result, words, model=not without_model)


def _command(result: AnalysisResult, words: list[str], *, model: bool = True) -> str:
    environment = result.environment
    if model:
        words = [*words, "--model", environment.model_source or "MODEL"]
        if environment.model_factory is not None:
            words += ["--model-factory", environment.model_factory]
    return shlex.join(clean(word, 4096) for word in words)
