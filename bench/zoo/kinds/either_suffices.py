"""Two faults that are a failure only together: with either one alone the network has enough left to be right."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from bench.zoo import truth
from bench.zoo.batches import right_prompts, rights
from bench.zoo.faults import Fault, failing_share, put_all, some_fault, strength_for, two_parts
from bench.zoo.kind import Case, Kind, Planted, Sets, Unplantable
from bench.zoo.network import Prompt

ATTEMPTS = 150
VERIFIED = 24
ALONE = 0.85
"""Share of the failing prompts that must be right with the one fault, and with the other."""
FEWEST = 0.06
"""Share of the prompts that fails, at least."""


def plant(case: Case) -> Planted:
    """Pairs of faults, each just too weak to be noticed alone, until they fail and fixing either one suffices."""
    asked = right_prompts(case.network, case.healthy, case.random)
    for _ in range(ATTEMPTS):
        faults = []
        for part in two_parts(case):
            fault = some_fault(case, part)
            share = partial(failing_share, case.module, asked, [fault])
            faults.append((fault, strength_for(share, case.random.uniform(0.01, 0.06))))
            fault.put(0)
        if either_repairs(case, asked, faults):
            told = "; ".join(fault.told(strength) for fault, strength in faults)
            return Planted(told, tuple(fault.part.site for fault, _ in faults))
        put_all([fault for fault, _ in faults], 0)
    raise Unplantable(f"either_suffices in {case.network.name}: none of {ATTEMPTS} pairs of faults was that")


def either_repairs(case: Case, asked: Sequence[Prompt], faults: Sequence[tuple[Fault, float]]) -> bool:
    """Leaves them in."""
    for fault, strength in faults:
        fault.put(strength)
    failing = [prompt for prompt, right in zip(asked, rights(case.module, asked).tolist(), strict=True) if not right]
    if len(failing) < FEWEST * len(asked):
        return False
    for fault, strength in faults:
        fault.put(0)
        alone = float(rights(case.module, failing).float().mean())
        fault.put(strength)
        if alone < ALONE:
            return False
    sites = [fault.part.site for fault, _ in faults]
    found = truth.repairs(case.module, case.healthy, failing[:VERIFIED], case.network.failure, sites)
    return either_alone(tuple(sites), truth.minimal(found))


def either_alone(sites: tuple[str, ...], minimal: Sets) -> bool:
    return list(minimal) == [(site,) for site in sites]


KIND = Kind("either_suffices", "several", ("gpt2", "llama", "minilm", "digits"), plant, is_one=either_alone)
