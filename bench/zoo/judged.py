"""What the tool said about one incident, held against what was planted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.zoo.plan import Entry
from model_forensics.cf.onset import departing
from model_forensics.pipeline.confidence import calibrated, necessity_evidence

TOP = 3
Sites = frozenset[str]


@dataclass(frozen=True)
class Judged:
    """One incident. What does not apply to it, or was not measured, is None and counts nowhere.

    Attributes:
        fix_exists: whether some set of the damaged components removes the failure, and the fault is not diffuse.
        fix_found: the tool found a sufficient set, by its held-out samples.
        named: the reported set is called a cause and is one of the smallest sets of damaged components that remove the
            failure; `named_or_restores`: or of those that restore the healthy output as well.
        layer_named: it lies in the layers of one of the first kind.
        onset: where forensics says the departure begins: (site, layer) are those of the first damaged component;
            `onset_top`: it is among the first `TOP` departing sites in order of execution.
        strongest: the same for the most anomalous site and the `TOP` most anomalous.
        changed: share of benign outputs that the fix changes.
        alarm: a cause was reported where nothing is wrong inside.
        confidence, evidence: of a reported cause, as the present constants have it, and what it is a function of.
        change: how far the healthy activations are from the incident's (`largest_change` of a result's evidence).
        rivals: by method, whether its first site is a damaged one.
    """

    name: str
    kind: str
    family: str
    network: str
    split: str
    reference: bool
    verdict: str | None
    refused: str | None
    reported: tuple[str, ...]
    fix_exists: bool
    fix_found: bool | None
    named: bool | None
    named_or_restores: bool | None
    layer_named: bool | None
    onset: tuple[bool, bool] | None
    onset_top: bool | None
    strongest: tuple[bool, bool] | None
    strongest_top: bool | None
    changed: float | None
    alarm: bool | None
    confidence: float | None
    evidence: float | None
    change: float | None
    commit: str | None
    seconds: float
    cpu_seconds: float
    forwards: int | None
    rivals: dict[str, bool | None]


def judge(root: Path, entry: Entry) -> Judged:
    """Reads what `make` and `run` wrote.

    Raises:
        FileNotFoundError: the incident was not run.
    """
    truth = _read(root / "incidents" / entry.name / "truth.json")
    spent = _read(root / "results" / f"{entry.name}.run.json")
    result = None if spent["refused"] else _read(root / "results" / f"{entry.name}.json")
    minimal = [] if truth["diffuse"] else [frozenset(one) for one in truth["minimal_fix_sets"]]
    either = [*minimal, *map(frozenset, truth["restoring_sets"])]
    damaged: Sequence[str] = truth["damaged"]
    fix = None if result is None else result["fix_set"]
    caused = fix is not None and fix["label"] == "cause"
    reported = () if fix is None else tuple(one["site"] for one in fix["interventions"])
    evidence = _evidence(result)
    metrics = [] if result is None else result["compression_metrics"]
    return Judged(
        name=entry.name,
        kind=entry.kind,
        family=truth["family"],
        network=truth["network"],
        split=entry.split,
        reference=truth["reference"],
        verdict=None if result is None else result["verdict"],
        refused=spent["refused"],
        reported=reported,
        fix_exists=bool(minimal),
        fix_found=fix is not None and not fix["in_sample"] if minimal else None,
        named=caused and frozenset(reported) in minimal if minimal else None,
        named_or_restores=caused and frozenset(reported) in either if minimal else None,
        layer_named=caused and _layers(reported) in [_layers(one) for one in minimal] if minimal else None,
        onset=_names(_site(result, "onset"), damaged[:1]),
        onset_top=_any(_departing(metrics)[:TOP], damaged[:1]),
        strongest=_names(_site(result, "strongest"), damaged),
        strongest_top=_any(_most_anomalous(metrics), damaged),
        changed=fix["side_effects"]["changed_rate"] if fix is not None and fix["side_effects"] else None,
        alarm=None if damaged else caused,
        confidence=None if evidence is None else calibrated(evidence),
        evidence=evidence,
        change=None if result is None else result["evidence"]["largest_change"],
        commit=spent["commit"],
        seconds=spent["seconds"],
        cpu_seconds=spent["cpu_seconds"],
        forwards=None if result is None or result["evidence"]["search"] is None
        else result["evidence"]["search"]["forwards"],
        rivals={
            name: None if ranking is None or not damaged else bool(ranking) and ranking[0] in damaged
            for name, ranking in spent["rankings"].items()
        },
    )  # fmt: skip


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def _evidence(result: dict[str, Any] | None) -> float | None:
    """Of a reported cause with a confidence."""
    if result is None or result["confidence"] is None:
        return None
    return necessity_evidence(result["fix_set"]["necessity"], result["fix_set"]["groups"])


def _site(result: dict[str, Any] | None, name: str) -> str | None:
    return None if result is None or result[name] is None else str(result[name]["site"])


def _layers(sites: Sequence[str] | Sites) -> Sites:
    return frozenset(site.split(".")[0] for site in sites)


def _names(site: str | None, damaged: Sequence[str]) -> tuple[bool, bool] | None:
    """Whether it is one of these, and whether its layer is; None where nothing is damaged."""
    if not damaged:
        return None
    if site is None:
        return False, False
    if site == "input":  # as an onset at the first site is called
        site = "embed"
    return site in damaged, _layers([site]) <= _layers(damaged)


def _any(sites: Sequence[str], damaged: Sequence[str]) -> bool | None:
    return bool(set(sites) & set(damaged)) if damaged else None


def _departing(metrics: Sequence[dict[str, Any]]) -> list[str]:
    """Sites that depart given what is upstream of them, in order of execution: the first one is the onset."""
    p_values = np.array([row["given_upstream"] for row in metrics], np.float64)
    hard = np.array([row["integrity"]["nan"] + row["integrity"]["inf"] > 0 for row in metrics], bool)
    return [str(metrics[place]["site"]) for place in np.flatnonzero(departing(p_values, hard))]


def _most_anomalous(metrics: Sequence[dict[str, Any]]) -> list[str]:
    scored = [row for row in metrics if row["rank_score"] is not None or row["integrity"]["flags"]]
    hard = [row for row in metrics if row["integrity"]["nan"] + row["integrity"]["inf"] > 0]
    rest = sorted((row for row in scored if row not in hard), key=lambda row: -(row["rank_score"] or 0.0))
    return [row["site"] for row in [*hard, *rest][:TOP]]
