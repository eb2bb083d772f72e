"""Two faults, each of them a failure by itself: with one fixed, the network still fails because of the other."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from bench.zoo import truth
from bench.zoo.batches import right_prompts, rights
from bench.zoo.faults import Fault, failing_share, put_all, some_fault, strength_for
from bench.zoo.kind import Case, Kind, Planted, Sets, Unplantable
from bench.zoo.network import Prompt

ATTEMPTS, VERIFIED = 150, 24
FEWEST = 0.15
"""Share of the prompts that fails with either fault alone, at least."""


def plant(case: Case) -> Planted:
    """Pairs of faults, each as strong as a failure needs, until only fixing both suffices."""
    asked = right_prompts(case.network, case.healthy, case.random)
    found: list[tuple[Fault, float]] = []
    for _ in range(ATTEMPTS):
        fault = some_fault(case, case.some_part())
        if any(fault.part.site == other.part.site for other, _ in found):
            continue
        share = partial(failing_share, case.module, asked, [fault])
        strength = strength_for(share, case.random.uniform(FEWEST, 0.9))
        if share(strength) >= FEWEST:
            found.append((fault, strength))
        fault.put(0)
        if len(found) == 2:
            found.sort(key=lambda each: (each[0].part.layer, each[0].part.kind))
            if both_are(case, asked, found):
                sites = tuple(fault.part.site for fault, _ in found)
                return Planted("; ".join(fault.told(strength) for fault, strength in found), sites)
            found.pop(int(case.random.integers(2)))
    raise Unplantable(f"both_needed in {case.network.name}: no pair of {ATTEMPTS} faults was that")


def both_are(case: Case, asked: Sequence[Prompt], found: Sequence[tuple[Fault, float]]) -> bool:
    """Puts both in, and leaves them only where fixing both is what suffices."""
    for fault, strength in found:
        fault.put(strength)
    failing = [one for one, right in zip(asked, rights(case.module, asked).tolist(), strict=True) if not right]
    sites = tuple(fault.part.site for fault, _ in found)
    runs = truth.repairs(case.module, case.healthy, failing[:VERIFIED], case.network.failure, sites)
    if both_together(sites, truth.minimal(runs)):
        return True
    put_all([fault for fault, _ in found], 0)
    return False


def both_together(sites: tuple[str, ...], minimal: Sets) -> bool:
    return list(minimal) == [sites]


KIND = Kind("both_needed", "several", ("gpt2", "llama", "minilm", "digits"), plant, is_one=both_together)
