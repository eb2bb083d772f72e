"""A second fault hides the first: someone trained a component until the reports of the first stopped, and broke others.

The incident holds what fails now, mostly the second fault's doing: one repair alone suffices, as running them shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from bench.zoo import truth
from bench.zoo.batches import fine_tune, right_prompts, rights
from bench.zoo.faults import Fault, failing_share, some_fault, strength_for, two_parts
from bench.zoo.kind import Case, Kind, Planted, Sets, Unplantable
from bench.zoo.network import Prompt
from bench.zoo.networks.sentences import Sentences
from bench.zoo.parts import Part, copy_weights

ATTEMPTS, VERIFIED = 150, 24
STEPS = 25
HIDDEN = 0.8
"""Share of the first fault's failures that must be right with the second."""
FEWEST = 0.08
"""Share of the prompts that fails, at least: with the first fault, and then with both."""


def plant(case: Case) -> Planted:
    """Pairs, until the second hides the first, and alone repairs what fails then."""
    asked = right_prompts(case.network, case.healthy, case.random)
    for _ in range(ATTEMPTS):
        copy_weights(case.module, case.healthy)
        chosen = two_parts(case)
        first, second = chosen if case.random.random() < 0.5 else chosen[::-1]
        fault = some_fault(case, first)
        share = partial(failing_share, case.module, asked, [fault])
        strength = strength_for(share, case.random.uniform(FEWEST, 0.5))
        if share(strength) >= FEWEST and hides(case, asked, fault, second):
            sites = (chosen[0].site, chosen[1].site)
            return Planted(f"{fault.told(strength)}; {second.site} trained on what failed then", sites)
    raise Unplantable(f"masking in {case.network.name}: none of {ATTEMPTS} pairs of faults was that")


def hides(case: Case, asked: Sequence[Prompt], fault: Fault, second: Part) -> bool:
    """Trains the second component on what the first fault breaks."""
    reported = [one for one, right in zip(asked, rights(case.module, asked).tolist(), strict=True) if not right]
    rate = 10 ** case.random.uniform(-2.7, -1.7) * (0.2 if isinstance(case.network, Sentences) else 1)
    fine_tune(case.module, reported, case.random, second.maps, steps=STEPS, rate=rate)
    failing = [one for one, right in zip(asked, rights(case.module, asked).tolist(), strict=True) if not right]
    still = {id(one) for one in reported} & {id(one) for one in failing}
    if len(failing) < FEWEST * len(asked) or len(still) > (1 - HIDDEN) * len(reported):
        return False
    sites = (fault.part.site, second.site)
    found = truth.repairs(case.module, case.healthy, failing[:VERIFIED], case.network.failure, sites)
    return truth.minimal(found) == [(second.site,)]


def one_alone(_sites: tuple[str, ...], minimal: Sets) -> bool:
    return [len(one) for one in minimal] == [1]


KIND = Kind("masking", "several", ("gpt2", "llama", "minilm", "digits"), plant, is_one=one_alone)
