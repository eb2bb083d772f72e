"""Where a run departs, in a few words: the same for incidents that one fault made. Measured in docs/triage.md.

A result does not carry its signature, because it is a plain function of what the result holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from model_forensics.types import Onset, SiteMetrics

SHARE = 0.1
"""Of the largest rank score: what departs less is no place where a fault of that size began."""


def signature_of(metrics: Sequence[SiteMetrics], onset: Onset | None) -> str | None:
    """The first of these that holds:

    1. `NaN or Inf from SITE`: the first site in execution order with such values;
    2. None, where no site is anomalous;
    3. `ORIGIN` or `ORIGIN, most at SITE`: where the departure begins, and where it is largest if that is elsewhere.

    The origin is the onset. Of clean sites before a fault, some look like an onset by chance; they depart far less than
    the fault, so an onset below `SHARE` of the largest rank score gives way to the first site that is not below it.
    """
    broken = next((metric.site for metric in metrics if metric.integrity.nan or metric.integrity.inf), None)
    if broken is not None:
        return f"NaN or Inf from {broken}"
    ranked = {metric.site: metric.rank_score for metric in metrics if metric.rank_score is not None}
    if not ranked or not any(metric.is_anomalous for metric in metrics):
        return None
    strongest = max(ranked, key=lambda site: ranked[site])
    least = SHARE * ranked[strongest]
    origin = next(site for site, score in ranked.items() if score >= least)
    if onset is not None and ranked.get(onset.site, float("-inf")) >= least:
        origin = onset.site
    return origin if origin == strongest else f"{origin}, most at {strongest}"
