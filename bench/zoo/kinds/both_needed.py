"""Two faults, each of them a failure by itself: with one fixed, the network still fails because of the other."""

from __future__ import annotations

from functools import partial

from bench.zoo import truth
from bench.zoo.batches import rights
from bench.zoo.faults import failing_share, put_all, right_prompts, some_fault, strength_for, two_parts
from bench.zoo.kind import Case, Kind, Planted

ATTEMPTS, VERIFIED = 40, 24
FEWEST = 0.25
"""Share of the prompts that fails with either fault alone, at least."""


def plant(case: Case) -> Planted:
    """Pairs of faults, each as strong as a failure needs, until only fixing both suffices."""
    asked = right_prompts(case.network, case.healthy, case.random)
    for _ in range(ATTEMPTS):
        faults = [some_fault(case, part) for part in two_parts(case)]
        strengths = []
        for fault in faults:
            share = partial(failing_share, case.module, asked, [fault])
            strengths.append(strength_for(share, case.random.uniform(FEWEST, 0.9)))
            if share(strengths[-1]) < FEWEST:
                break
            fault.put(0)
        if len(strengths) == len(faults):
            for fault, strength in zip(faults, strengths, strict=True):
                fault.put(strength)
            failing = [one for one, right in zip(asked, rights(case.module, asked).tolist(), strict=True) if not right]
            sites = tuple(fault.part.site for fault in faults)
            found = truth.repairs(case.module, case.healthy, failing[:VERIFIED], case.network.failure, sites)
            if truth.minimal(found) == [sites]:
                told = [fault.told(strength) for fault, strength in zip(faults, strengths, strict=True)]
                return Planted("; ".join(told), sites)
        put_all(faults, 0)
    return Planted("none found")


KIND = Kind("both_needed", "several", ("gpt2", "llama", "minilm", "digits"), plant)
