"""The evidence for a set and the search that found it, in words: (what, value) pairs for the terminal and the page.

Every value is composed from measured fields; where a field is null, it says why nothing was measured.
"""

from __future__ import annotations

from model_forensics.report.numbers import (
    NOT_MEASURED,
    clean,
    interval,
    listing,
    number,
    plural,
    probability,
    rate,
    size,
)
from model_forensics.report.words import no_score_reason, positions
from model_forensics.types import (
    AnalysisResult,
    Certificate,
    CopyCheck,
    Execution,
    Finer,
    FixSet,
    Reversal,
    SearchSpent,
    Shams,
    Shuffled,
)

_MINIMALITY = {
    "none": "not shown: smaller sets were not tried",
    "local": "every member is needed: leaving out any one loses the fix",
    "subset": "no proper subset of it works",
    "cardinality": "no smaller set within the searched pool works",
}
NONE = "none"
"""What a value starts with where something was looked for, or might have been, and is not there."""
_LISTED_PARTS = 6


# --- one set --------------------------------------------------------------------------------------


def of_set(result: AnalysisResult, fix: FixSet) -> list[tuple[str, str]]:
    """The measurements behind a set."""
    return [
        (
            "Flip rate",
            f"{rate(fix.flip_rate)} ({fix.flips:,} of {plural(fix.samples, 'sample')}, "
            f"{plural(fix.groups, 'group')}; {interval(fix.flip_interval)}, {clean(fix.flip_interval.method)})",
        ),
        ("Samples used", "those the search saw" if fix.in_sample else "held out: the search did not see them"),
        ("Recovery", _recovery(fix)),
        ("Explained away", _explained(result, fix)),
        ("Minimality", minimality(fix)),
        ("Finer parts", _finer(fix.finer, fix)),
        ("Bits replaced", number(fix.bits_replaced)),
        ("Side effects", _side_effects(fix)),
        ("Other answers", _copy_check(fix.copy_check, fix)),
        ("Similar sets", _shams(fix.shams, _only(result, fix, "no other set is like it"))),
        ("Reverse test", _reversal(fix.reversal, _only(result, fix, "it takes a reference model that does not fail"))),
        ("Shuffled donors", _shuffled(fix.shuffled, _only(result, fix, "--evidence full does it, given a donor"))),
        ("Agrees with onset", _onset(result, fix)),
    ]


def minimality(fix: FixSet) -> str:
    """What was shown about smaller sets, and by how much searching."""
    if len(fix.interventions) == 1:
        level = "a single intervention; nothing smaller exists"
    else:
        level = _MINIMALITY[fix.minimality]
    return level if fix.certificate is None else f"{level} ({_certificate(fix.certificate)})"


def necessity(fix: FixSet, index: int) -> str:
    """Flip rate lost when this member is left out."""
    return rate(fix.necessity[index]) if index < len(fix.necessity) else NOT_MEASURED


def _certificate(found: Certificate) -> str:
    sizes = {0: "not even every single one was run", 1: "every single one was run"}
    tried = sizes.get(found.exhausted, f"every set of up to {found.exhausted} was run")
    return f"{plural(found.candidates, 'candidate')}: {tried}; {plural(found.forwards, 'model row')} in all"


def _recovery(fix: FixSet) -> str:
    if fix.recovery is None:
        return f"{NOT_MEASURED} (there is no donor run to compare with)"
    return f"{rate(fix.recovery)} of the way from the failed score to the donor's (median)"


def _explained(result: AnalysisResult, fix: FixSet) -> str:
    if fix.explained_away is None:
        why = (
            no_score_reason(result) if result.anomaly_score is None else "no anomalous site outside the set was tested"
        )
        return f"{NOT_MEASURED} ({why})"
    return f"{rate(fix.explained_away)} of the other anomalous sites return to the baseline"


def _finer(found: Finer | None, fix: FixSet) -> str:
    if found is None:
        return f"{NONE}: nothing inside its components repairs as well, or none was looked for"
    parts = [
        clean(one.site, 60) + ("" if one.positions is None else f" at {positions(one)}")
        for one in found.interventions[:_LISTED_PARTS]
    ]
    more = len(found.interventions) - len(parts)
    named = listing([*parts, f"{more:,} more"] if more else parts)
    share = f", with {rate(found.bits_replaced / fix.bits_replaced)} of the bits" if fix.bits_replaced else ""
    return f"{named}: flip rate {rate(found.flip_rate)}{share}; where the repair acts, not a claim of cause"


def _side_effects(fix: FixSet) -> str:
    seen = fix.side_effects
    if seen is None:
        return f"{NOT_MEASURED} (no benign samples were run)"
    return (
        f"{seen.changed:,} of {seen.samples:,} benign outputs change ({interval(seen.interval)}); "
        f"KL {number(seen.kl_mean_bits)} bits on average, {number(seen.kl_max_bits)} at most"
    )


def _copy_check(found: CopyCheck | None, fix: FixSet) -> str:
    if found is None:
        if not any(one.kind == "patch" for one in fix.interventions):
            return f"{NOT_MEASURED} (the set takes nothing from a healthy run)"
        if not fix.flips:
            return f"{NOT_MEASURED} (the set removes the failure nowhere)"
        return f"{NOT_MEASURED} (no healthy run that fits gave another answer)"
    text = (
        "given the activations of another input, it brings that input's answer along in "
        f"{found.copied:,} of {plural(found.checks, 'check')}"
    )
    if found.upstream_flip_rate is not None:
        text += (
            "; repairing everything before it instead removes the failure in "
            f"{rate(found.upstream_flip_rate)} of the samples"
        )
        if found.upstream_restores is False and found.upstream_flip_rate:
            text += " and does not restore the output"
    return text


def _shams(found: Shams | None, reason: str) -> str:
    if found is None:
        return f"{NOT_MEASURED} ({reason})"
    return (
        f"{found.sufficient:,} of {plural(found.sets, 'set')} of the same kind, at most {found.layer_distance} layers "
        f"away and within {number(found.bits_ratio)} times its bits, would do ({interval(found.interval)}); "
        f"flip rate {rate(found.flip_rate)} on average, {rate(found.highest_flip_rate)} at most"
    )


def _reversal(found: Reversal | None, reason: str) -> str:
    if found is None:
        return f"{NOT_MEASURED} ({reason})"
    return (
        "what the failing model computes there makes the reference model fail in "
        f"{found.failures:,} of {plural(found.samples, 'sample')} ({interval(found.interval)})"
    )


def _shuffled(found: Shuffled | None, reason: str) -> str:
    if found is None:
        return f"{NOT_MEASURED} ({reason})"
    seen = f"{found.as_good:,} of {plural(found.repeats, 'repeat')} of the search with shuffled donors did as well"
    if found.p_value is None:
        return f"{NOT_MEASURED} (time ran out: {seen}, too few for a p-value)"
    return f"p = {probability(found.p_value)}: {seen}"


def _only(result: AnalysisResult, fix: FixSet, reason: str) -> str:
    """Why something is null: some measurements are taken of the result's fix set alone."""
    return reason if fix is result.fix_set else "only of a result's fix set"


def _onset(result: AnalysisResult, fix: FixSet) -> str:
    agrees = result.evidence.onset_agrees if fix is result.fix_set else None
    if agrees is None:
        return f"{NOT_MEASURED} ({'no onset was found' if result.onset is None else 'it was not compared'})"
    return "yes" if agrees else "no: the onset is in another layer"


# --- the search -----------------------------------------------------------------------------------


def of_search(spent: SearchSpent) -> list[tuple[str, str]]:
    """How sets were searched and run."""
    return [
        ("Search", f"{clean(spent.strategy)}, seed {spent.seed}" + (", stopped by the time limit" * spent.timed_out)),
        ("Sets run", f"{spent.combinations:,} distinct sets in {spent.forwards:,} forward rows"),
        ("Candidate sites", _pool(spent)),
        ("Estimated effects", _agreement(spent)),
        ("How rows were run", execution(spent.execution)),
        (
            "Fast path against plain hooks",
            f"largest difference {number(spent.self_check_max_error)} of the largest logit",
        ),
    ]


def searched(spent: SearchSpent) -> str:
    """The search in one sentence, without a full stop."""
    return (
        f"{plural(spent.combinations, 'set')} at {plural(len(spent.pool), 'candidate site')} in "
        f"{plural(spent.forwards, 'model row')}" + (", until the time ran out" if spent.timed_out else "")
    )


def execution(done: Execution | None) -> str:
    """Whether rows started in the middle of the model, in what batches, and whether memory ran out."""
    if done is None:
        return NOT_MEASURED
    if done.from_middle:
        how = f"{done.rows_from_middle:,} of them from the first layer and token that they change on"
    else:
        how = f"through the whole model ({clean(done.reason or 'no reason is recorded')})"
    limit = "" if done.memory_limit is None else f", planned for {size(done.memory_limit)}"
    split = f"; memory ran out {plural(done.halvings, 'time')}, and the batch was split" if done.halvings else ""
    return f"{how}; up to {plural(done.max_batch_rows, 'row')} a batch{limit}{split}"


def site_list(names: tuple[str, ...]) -> str:
    """`3: a, b, c`; the first twelve of many."""
    listed = ", ".join(clean(name, 60) for name in names[:12])
    return f"{len(names):,}: {listed}{', …' if len(names) > 12 else ''}" if names else NONE


def _pool(spent: SearchSpent) -> str:
    left = f"; {plural(spent.left_out, 'less promising site')} left out" if spent.left_out else ""
    return f"{site_list(spent.pool)}{left}"


def _agreement(spent: SearchSpent) -> str:
    if spent.attribution_agreement is None:
        return f"{NOT_MEASURED} (none were needed: every candidate was run)" if not spent.left_out else NOT_MEASURED
    return f"rank correlation {number(spent.attribution_agreement, 2)} with the measured ones"
