"""Two results side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from model_forensics.diff.tables import Facts, comparison, flat, section
from model_forensics.types import AnalysisResult, ComparedSection, Comparison, FixSet, Scalar

# Where and when it was run, not what was found.
_PLACES = ("incident_path", "baseline_path", "model_source", "donor_source")


def compare_results(left: AnalysisResult, right: AnalysisResult, names: tuple[str, str]) -> Comparison:
    """What differs between two results.

    Args:
        names: what to call them, such as their paths.
    """
    return comparison("results", *names, _sections(left, right))


def _sections(left: AnalysisResult, right: AnalysisResult) -> Iterator[ComparedSection]:
    yield section("Incident", _incident(left), _incident(right))
    yield section("Finding", _finding(left), _finding(right))
    yield section("Fix set", _fix(left.fix_set), _fix(right.fix_set))
    yield section("Alternatives", _sets(left.alternatives), _sets(right.alternatives))
    yield section("Workarounds", _sets(left.workarounds), _sets(right.workarounds))
    yield section("Anomalous sites", _anomalous(left), _anomalous(right))
    yield section("Anomaly scores", _scores(left), _scores(right))
    yield section("Warnings", dict.fromkeys(left.warnings, True), dict.fromkeys(right.warnings, True))
    yield section("Environment", _environment(left), _environment(right))
    yield section("Configuration", _configuration(left), _configuration(right))
    yield section("Where and when", _circumstances(left), _circumstances(right), counts=False)


def _incident(result: AnalysisResult) -> Facts:
    incident, model = result.incident, result.incident.model
    return {
        "bundle": result.bundle_id,
        "samples": incident.samples,
        "groups": incident.groups,
        "tokens": incident.tokens,
        "sites": incident.sites,
        "failure": incident.failure,
        "recorded model": None if model is None else model.architecture,
        "recorded weights": None if model is None else model.weights_digest,
        "analysed weights": result.environment.weights_digest,
    }


def _finding(result: AnalysisResult) -> Facts:
    replay = result.evidence.replay
    return {
        "verdict": result.verdict,
        "cause": str(result.fix_set) if result.fix_set is not None and result.fix_set.label == "cause" else None,
        "confidence": result.confidence,
        "anomaly score": result.anomaly_score,
        "anomaly p": result.anomaly_p_value,
        "onset": None if result.onset is None else result.onset.site,
        "onset sigma": None if result.onset is None else result.onset.sigma,
        "strongest": None if result.strongest is None else result.strongest.site,
        "replay reproduced": None if replay is None else replay.reproduced,
        "samples that fail on replay": None if replay is None else replay.failing,
    }


def _fix(fix: FixSet | None) -> Facts:
    if fix is None:
        return {}
    seen = fix.side_effects
    return {
        "interventions": str(fix),
        "label": fix.label,
        "flips": f"{fix.flips} of {fix.samples}",
        "recovery": fix.recovery,
        "explained away": fix.explained_away,
        "minimality": fix.minimality,
        "bits replaced": fix.bits_replaced,
        "side effects": None if seen is None else f"{seen.changed} of {seen.samples}",
        "donors": ", ".join(sorted({one.donor.kind for one in fix.interventions if one.donor is not None})) or None,
    }


def _sets(fixes: Sequence[FixSet]) -> Facts:
    return {str(fix): f"{fix.flips} of {fix.samples} flip, {fix.label}" for fix in fixes}


def _anomalous(result: AnalysisResult) -> Facts:
    """The anomalous sites alone: which ones, whatever their score."""
    return {row.site: "anomalous" for row in result.compression_metrics if row.is_anomalous}


def _scores(result: AnalysisResult) -> Facts:
    return {row.site: row.anomaly_score for row in result.compression_metrics}


def _environment(result: AnalysisResult) -> Facts:
    facts: dict[str, Scalar] = flat(result.environment.model_dump(mode="json", exclude={"configuration", *_PLACES}))
    return {key: value for key, value in facts.items() if key != "weights_digest"}


def _configuration(result: AnalysisResult) -> Facts:
    own = {key: value for key, value in result.environment.configuration.items() if key != "output_dir"}
    return flat(own)


def _circumstances(result: AnalysisResult) -> Facts:
    places = {name: getattr(result.environment, name) for name in _PLACES}
    return {"recorded at": result.incident.created_at.isoformat(), "seconds": result.execution_time, **places}
