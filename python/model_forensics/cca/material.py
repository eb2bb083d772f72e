"""Whether the incident's run differs from its donor's by more than noise does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from model_forensics.cca.donors import PatchDonor
from model_forensics.cca.replay import Case, Run

MATERIAL_CHANGE = 0.2
"""Of `largest_change`. Measured once, on 101 incidents of the zoo's development split: weights rounded to 8 or 16 bits
changed at most 0.07 of what a component writes, planted faults at least 0.66. Larger models were not measured."""


def largest_change(base: Run, patch: PatchDonor | None, cases: Sequence[Case]) -> float | None:
    """How far the donor's activations are from the incident's, at the component and token where they differ most.

    Per sample and component: the longest difference of a token's rows, over the root mean square length of the donor's
    rows. Then the median over the cases, and the largest of all components. Infinite where the incident holds NaN or
    Inf. None without a donor run on the same input.
    """
    if patch is None or not patch.description.same_input or not cases:
        return None
    changes = []
    for site, donor in patch.rows.items():
        ours = base.activations.get(site)
        pairs = [] if ours is None else [(ours[case.sample], donor[case.sample]) for case in cases]
        known = [_change(one, theirs) for one, theirs in pairs if theirs is not None]
        if known:
            changes.append(float(np.median(known)))
    return max(changes, default=None)


def _change(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    common = min(len(ours), len(theirs))  # the donor of a text ran on what it generated as well
    theirs = theirs[:common].to(torch.float64)
    difference = (ours[:common].to(torch.float64) - theirs).norm(dim=-1).max()
    length = theirs.norm(dim=-1).square().mean().sqrt()
    if not bool(torch.isfinite(difference)):
        return float("inf")
    if length == 0:
        return float("inf") if difference > 0 else 0.0
    return float(difference / length)
