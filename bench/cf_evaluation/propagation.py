"""Damage in the weights of one component spreads downstream: does `onset` name where it began?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.cf_evaluation.calibration import INCIDENT_GROUPS, baselines_of
from bench.cf_evaluation.damage import Damage, damaged
from bench.cf_evaluation.networks import Network
from bench.cf_evaluation.plan import CONFIG, Plan
from model_forensics.bundle.memory import MemoryRecording
from model_forensics.cf import Baseline, analyze
from model_forensics.types import Onset

GROUPS = (20, 100)
PLACES = ("in", "out")


@dataclass(frozen=True)
class Case:
    layer: int
    kind: str
    place: int
    damage: str


def cases(network: Network, names: Sequence[str], step: int) -> list[Case]:
    """Every layer, component and damage; which of the component's two maps is hit alternates."""
    layers = network.model.sites.layers or 0
    every = [(layer, kind, name) for layer in range(layers) for kind in ("attn", "mlp") for name in names]
    return [
        Case(layer, kind, (layer + names.index(name)) % 2, name)
        for number, (layer, kind, name) in enumerate(every)
        if (number + number // len(names)) % step == 0
    ]


def measure(network: Network, plan: Plan, damages: Mapping[str, Damage]) -> list[dict[str, Any]]:
    """One row for every case, baseline size and incident."""
    pool = [network.record([prompt], f"pool{n}") for n, prompt in enumerate(network.pool)]
    fitted = {groups: baselines_of(pool, groups, 1)[0] for groups in GROUPS if groups <= len(pool)}
    asked = network.tested[:INCIDENT_GROUPS]
    clean = network.record(asked, "clean")
    rows = []
    for case in cases(network, list(damages), plan.case_step):
        with damaged(network.model, case.layer, case.kind, case.place, damages[case.damage]):
            together = network.record(asked, "incident")
            singles = [network.record([prompt], f"incident{n}") for n, prompt in enumerate(asked[: plan.singles])]
        about = {
            "network": network.name, "layer": case.layer, "kind": case.kind, "weights": PLACES[case.place],
            "damage": case.damage, "effect": _effect(clean, together, f"L{case.layer}.{case.kind}"),
        }  # fmt: skip
        for groups, baseline in fitted.items():
            for incident in (together, *singles):
                rows.append(about | {"groups": groups} | _outcome(case, incident, baseline))
    return rows


def _effect(clean: MemoryRecording, broken: MemoryRecording, site: str) -> float:
    """Relative change of the component's output, whose own input is the clean one: median over prompts."""
    pairs = [(clean.activation(site, n), broken.activation(site, n)) for n in range(len(clean.samples))]
    return float(np.median([np.linalg.norm(b - a) / np.linalg.norm(a) for a, b in pairs]))


def _outcome(case: Case, incident: MemoryRecording, baseline: Baseline) -> dict[str, Any]:
    result = analyze(incident, baseline, CONFIG, windows=False)
    order = [row.site for row in result.metrics]
    own = next(row for row in result.metrics if row.site == f"L{case.layer}.{case.kind}")
    return {
        "incident_groups": len(incident.samples),
        "incident_score": result.anomaly_score,
        "own_sigma": own.anomaly_score,
        "onset": None if result.onset is None else result.onset.site,
        "onset_verdict": verdict(case, result.onset, order),
        "strongest": None if result.strongest is None else result.strongest.site,
        "strongest_verdict": verdict(case, result.strongest, order),
    }


def verdict(case: Case, found: Onset | None, order: Sequence[str]) -> str:
    """`component`, `layer` (another site of the layer), `before`, `after` or `none`.

    The heads of a layer are its attention: they are what its output projection reads.
    """
    if found is None:
        return "none"
    if found.site == "input":
        return "before"
    layer, _, part = found.site.partition(".")
    if layer == f"L{case.layer}":
        is_attention = part == "attn" or part.startswith("head")
        return "component" if part == case.kind or (is_attention and case.kind == "attn") else "layer"
    return "before" if order.index(found.site) < order.index(f"L{case.layer}.{case.kind}") else "after"
