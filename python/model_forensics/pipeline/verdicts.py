"""What a result concludes from the stages: verdict and evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model_forensics.types import Evidence

if TYPE_CHECKING:
    from model_forensics.types import CausalResult, ForensicsResult, Verdict


def verdict(forensics: ForensicsResult, causal: CausalResult | None) -> Verdict:
    """In a word, what was found out."""
    if causal is not None:
        if causal.replay.failing == 0:
            return "not_reproduced"
        if causal.fix_set is None:
            return "no_fix_found"
        return "cause_found" if causal.fix_set.label == "cause" else "workaround_found"
    if any(metric.is_anomalous for metric in forensics.metrics):
        return "anomaly_located"
    judged = any(metric.anomaly_score is not None for metric in forensics.metrics)
    return "nothing_anomalous" if judged else "not_judged"


def evidence(forensics: ForensicsResult, causal: CausalResult | None) -> Evidence:
    """What the search measured, and whether it agrees with the onset; null where nothing was searched."""
    if causal is None:
        return Evidence(replay=None, search=None, best_effect=None, onset_agrees=None)
    agrees = None
    if causal.fix_set is not None and forensics.onset is not None:
        layers = {metric.site: metric.layer for metric in forensics.metrics}
        onset_layer = layers.get(forensics.onset.site)
        sites = [intervention.site for intervention in causal.fix_set.interventions]
        known = [layer for layer in map(_layer_of, sites) if layer is not None]
        agrees = forensics.onset.site in sites or (bool(known) and onset_layer == min(known))
    return Evidence(
        replay=causal.replay,
        search=causal.spent,
        best_effect=causal.best_effect,
        onset_agrees=agrees,
        largest_change=causal.largest_change,
    )


def _layer_of(site: str) -> int | None:
    head = site.split(".", 1)[0]
    return int(head[1:]) if head[:1] == "L" and head[1:].isdigit() else None
