"""Two faults that are a failure only together: with either one alone the network has enough left to be right."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from bench.zoo import truth
from bench.zoo.batches import rights
from bench.zoo.faults import Fault, failing_share, put_all, right_prompts, some_fault, strength_for, two_parts
from bench.zoo.kind import Case, Kind, Planted
from bench.zoo.network import Prompt

ATTEMPTS = 40
VERIFIED = 24
ALONE = 0.9
"""Share of the failing prompts that must be right with the one fault, and with the other."""
FEWEST = 0.06
"""Share of the prompts that fails, at least."""


def plant(case: Case) -> Planted:
    """Pairs of faults, at the strength at which they fail together, until fixing either one suffices."""
    asked = right_prompts(case.network, case.healthy, case.random)
    for _ in range(ATTEMPTS):
        faults = [some_fault(case, part) for part in two_parts(case)]
        strength = strength_for(partial(failing_share, case.module, asked, faults), case.random.uniform(0.08, 0.4))
        if either_repairs(case, asked, faults, strength):
            return Planted("; ".join(fault.told(strength) for fault in faults), tuple(one.part.site for one in faults))
        put_all(faults, 0)
    return Planted("none found")


def either_repairs(case: Case, asked: Sequence[Prompt], faults: Sequence[Fault], strength: float) -> bool:
    """Leaves them at this strength."""
    put_all(faults, strength)
    failing = [prompt for prompt, right in zip(asked, rights(case.module, asked).tolist(), strict=True) if not right]
    if len(failing) < FEWEST * len(asked):
        return False
    for fault in faults:
        fault.put(0)
        alone = float(rights(case.module, failing).float().mean())
        fault.put(strength)
        if alone < ALONE:
            return False
    sites = [fault.part.site for fault in faults]
    found = truth.repairs(case.module, case.healthy, failing[:VERIFIED], case.network.failure, sites)
    return truth.minimal(found) == [(site,) for site in sites]


KIND = Kind("either_suffices", "several", ("gpt2", "llama", "minilm", "digits"), plant)
