"""A fine-tune that taught something new, without a look at what the network could before, and broke some of that."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bench.zoo.batches import fine_tune
from bench.zoo.kind import Case, Kind, Planted
from bench.zoo.network import Network, Prompt
from bench.zoo.networks.digits import Digits
from bench.zoo.networks.language import LENGTHS, SPARE, Drawn, Language, tell
from bench.zoo.networks.sentences import Sentences
from bench.zoo.parts import COMPONENTS, layers_of, part

STEPS, TAUGHT = 40, 300
DIFFUSE = 0.3
"""Share of the fine-tunes that train all layers; the others train one."""
_NEW_SKILLS: dict[str, Callable[[list[int]], int]] = {
    "the first symbol": lambda body: body[0],
    "the last symbol": lambda body: body[-1],
    "the smallest symbol": min,
}


def new_language_skill(network: Language, random: np.random.Generator) -> tuple[str, list[Prompt]]:
    """Under a marker of its own, as a new instruction would come."""
    name = str(random.choice(list(_NEW_SKILLS)))
    found = []
    for _ in range(TAUGHT):
        body = tell(random, 1, int(random.choice(LENGTHS)) - 1).body[1:]
        tokens = np.array([SPARE, *body, SPARE], np.int64)
        found.append(network.prompt(Drawn(tokens, _NEW_SKILLS[name](body))))
    return f"to tell {name}", found


def few_classes(network: Network, random: np.random.Generator) -> tuple[str, list[Prompt]]:
    """More examples of some classes alone."""
    asked = network.prompts(random, 6 * TAUGHT if isinstance(network, Digits) else 3 * TAUGHT)
    classes = random.choice(sorted({one.right for one in asked}), 1 + int(random.integers(3)), replace=False).tolist()
    return f"on classes {classes} alone", [one for one in asked if one.right in classes][:TAUGHT]


def plant(case: Case) -> Planted:
    network, random = case.network, case.random
    told, taught = (
        new_language_skill(network, random) if isinstance(network, Language) else few_classes(network, random)
    )
    layers = range(layers_of(case.module))
    diffuse = random.random() < DIFFUSE
    chosen = list(layers) if diffuse else [int(random.integers(len(layers)))]
    parts = [part(case.module, layer, component) for layer in chosen for component in COMPONENTS]
    rate = 10 ** random.uniform(-3.3, -2.3) * (0.2 if isinstance(network, Sentences) else 1)
    fine_tune(case.module, taught, random, [one for each in parts for one in each.maps], steps=STEPS, rate=rate)
    where = "all layers" if diffuse else f"layer {chosen[0]}"
    return Planted(f"{where} trained {told}, at a rate of {rate:.1e}", tuple(one.site for one in parts))


KIND = Kind("broken_skill", "training", ("gpt2", "llama", "minilm", "digits"), plant)
