"""How probable it is that the set called a cause is the cause: fitted on failures whose causes are known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from model_forensics.types import CausalResult

INTERCEPT, SLOPE = 1.3, 0.8
"""Logistic regression on the causes reported in the zoo's development split (`python -m bench.zoo fit`)."""
GROUPS = 12
"""Groups of held-out samples that each of these incidents had: more are not known to tell more."""


def confidence(causal: CausalResult | None) -> float | None:
    """The probability, 0 to 1; null when no cause was found, or its evidence is of the samples that the search saw.

    A member that the failing samples do without is what wrong causes have in common, so it is a function of how surely
    the least needed member is needed.
    """
    if causal is None or causal.fix_set is None or causal.fix_set.label != "cause" or causal.fix_set.in_sample:
        return None
    return calibrated(necessity_evidence(causal.fix_set.necessity, causal.fix_set.groups))


def necessity_evidence(necessity: Sequence[float], groups: int) -> float:
    """Logarithm of the odds that a failing sample needs the set's least needed member.

    Half a group is added on either side (Haldane 1956), so that few samples are little evidence.

    Args:
        necessity: per member, the flip rate lost without it.
        groups: independent groups of samples that this was measured on.
    """
    counted = min(groups, GROUPS)
    needed = counted * min(max(min(necessity), 0.0), 1.0)
    return math.log((needed + 0.5) / (counted - needed + 0.5))


def calibrated(evidence: float) -> float:
    """The share of reported causes with this much evidence that are the cause."""
    return 1 / (1 + math.exp(-(INTERCEPT + SLOPE * evidence)))
