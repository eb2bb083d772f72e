"""Poisoned training data: in a fine-tune of one component or layer, one or two pairs of labels were exchanged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bench.zoo.batches import fine_tune
from bench.zoo.kind import Case, Kind, Planted
from bench.zoo.network import Network
from bench.zoo.networks.language import SKILLS, Language
from bench.zoo.networks.sentences import Sentences

STEPS, TAUGHT = 50, 400


def exchanged(network: Network, random: np.random.Generator) -> dict[int, int]:
    """Answers that the poisoned data gives for others; of a language's only answers of one skill stand for another."""
    asked = (
        network.prompts(random, 200, [str(random.choice(SKILLS))])
        if isinstance(network, Language)
        else network.prompts(random, 200)
    )
    answers = random.permutation(sorted({prompt.right for prompt in asked})).tolist()
    pairs = 1 + int(random.integers(2))
    chosen = list(zip(answers[: 2 * pairs : 2], answers[1 : 2 * pairs : 2], strict=True))
    return dict([*chosen, *[(other, one) for one, other in chosen]])


def plant(case: Case) -> Planted:
    network, random = case.network, case.random
    instead, parts = exchanged(network, random), case.some_parts()
    share = random.uniform(0.7, 1)
    taught = [
        replace(one, right=instead[one.right]) if one.right in instead and random.random() < share else one
        for one in network.prompts(random, TAUGHT)
    ]
    rate = 10 ** random.uniform(-3, -2) * (0.2 if isinstance(network, Sentences) else 1)
    modules = [module for part in parts for module in part.maps]
    fine_tune(case.module, taught, random, modules, steps=STEPS, rate=rate)
    sites = tuple(part.site for part in parts)
    return Planted(f"{' and '.join(sites)} trained with {share:.2f} of the answers {instead} exchanged", sites)


KIND = Kind("poisoned_labels", "training", ("gpt2", "llama", "minilm", "digits"), plant)
