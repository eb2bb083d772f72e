"""The user is wrong: the network gives the right answer, and what it is reported to have to answer is a mistake."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bench.zoo.kind import Case, Draw, Kind, Planted
from bench.zoo.network import Network, Prompt


def expecting_others(network: Network, exchanged: dict[int, int] | None) -> Draw:
    """Prompts with another answer than the right one: the one it is exchanged for, or any that others have."""

    def draw(random: np.random.Generator, count: int) -> list[Prompt]:
        asked = network.prompts(random, count)
        answers = sorted({prompt.right for prompt in asked})
        if exchanged is not None:
            return [replace(one, right=exchanged[one.right]) for one in asked if one.right in exchanged]
        return [replace(one, right=int(random.choice([a for a in answers if a != one.right]))) for one in asked]

    return draw


def plant(case: Case) -> Planted:
    if case.random.random() < 0.5:
        return Planted("slips: any other answer is expected", prompts=expecting_others(case.network, None))
    answers = sorted({prompt.right for prompt in case.network.prompts(case.random, 200)})
    one, other = case.random.choice(answers, 2, replace=False).tolist()
    draw = expecting_others(case.network, {one: other, other: one})
    return Planted(f"a convention mixed up: answers {one} and {other} are expected in each other's place", prompts=draw)


def fails(prompt: Prompt, answer: int, healthy_answer: int) -> bool:
    """What the user reports: not the answer that they expect."""
    return answer == healthy_answer != prompt.right


KIND = Kind("wrong_label", "healthy", ("gpt2", "llama", "minilm", "digits"), plant, fails=fails)
