"""Failures at the level of noise: the network was stored in fewer bits, and only answers that were near ties flip.

No component is the cause: each one's rounding moves a tie a little, and any change of that size moves it back.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from bench.zoo.batches import logits_of
from bench.zoo.kind import Case, Draw, Kind, Planted
from bench.zoo.network import Network, Prompt
from bench.zoo.networks.digits import Digits
from bench.zoo.networks.language import FIRST_NOUN, LENGTHS, SKILLS, SYMBOLS, Drawn, Language
from bench.zoo.networks.sentences import ADJECTIVES, TOPICS, Sentences, sentence

HALVINGS = 14
POOLS, NEAREST = {"minilm": 700, "gpt2": 14000, "llama": 14000}, 300
"""Texts cannot be blended: how many are looked at, and how many near ties are asked."""
VARIED, VARIANTS = 60, 20
"""Of the sentences, which take long: so many near ties are varied, in their numbers and adjectives."""


def blends(network: Digits, healthy: nn.Module) -> Draw:
    """Blends of two images, as near to a tie as some halvings come; right is what the healthy network answers."""

    def draw(random: np.random.Generator, count: int) -> list[Prompt]:
        ones, others = network.prompts(random, count), network.prompts(random, count)
        pairs = [(one, other) for one, other in zip(ones, others, strict=True) if one.right != other.right]
        low, high = torch.zeros(len(pairs)), torch.ones(len(pairs))
        answers = torch.tensor([one.right for one, _ in pairs])
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            same = logits_of(healthy, _blended(network, pairs, middle)).argmax(-1) == answers
            low, high = torch.where(same, middle, low), torch.where(same, high, middle)
        return with_answers(healthy, _blended(network, pairs, _between(random, low, high)))

    return draw


def _between(random: np.random.Generator, low: Tensor, high: Tensor) -> Tensor:
    share = torch.from_numpy(random.uniform(size=len(low)).astype(np.float32))
    return low + share * (high - low)


def _blended(network: Digits, pairs: list[tuple[Prompt, Prompt]], shares: Tensor) -> list[Prompt]:
    return [
        network.prompt(
            torch.lerp(one.inputs["pixel_values"], other.inputs["pixel_values"], share),
            one.right,
            f"between {one.text} and {other.text}",
        )
        for (one, other), share in zip(pairs, shares.tolist(), strict=True)
    ]


def with_answers(module: nn.Module, prompts: list[Prompt]) -> list[Prompt]:
    answers = logits_of(module, prompts).argmax(-1).tolist()
    return [replace(prompt, right=answer) for prompt, answer in zip(prompts, answers, strict=True)]


def nearest(network: Network, healthy: nn.Module) -> Draw:
    """Of many texts with two right answers those that the healthy network is least sure of."""

    def draw(random: np.random.Generator, _count: int) -> list[Prompt]:
        texts = [_ambiguous(network, random) for _ in range(POOLS[network.name])]
        if isinstance(network, Sentences):
            closest = _least_sure(healthy, texts, VARIED)
            texts = [network.prompt(_varied(one.text, random), 0) for one in closest for _ in range(VARIANTS)]
        return with_answers(healthy, _least_sure(healthy, texts, NEAREST))

    return draw


def _least_sure(module: nn.Module, prompts: list[Prompt], count: int) -> list[Prompt]:
    best = logits_of(module, prompts).topk(2).values
    return [prompts[number] for number in (best[:, 0] - best[:, 1]).argsort(stable=True)[:count].tolist()]


def _varied(text: str, random: np.random.Generator) -> str:
    words = []
    for word in text.split(" "):
        if word.isdigit():
            words.append(str(int(random.integers(2, 40))))
        else:
            words.append(str(random.choice(ADJECTIVES)) if word in ADJECTIVES else word)
    return " ".join(words)


def _ambiguous(network: Network, random: np.random.Generator) -> Prompt:
    if isinstance(network, Sentences):
        first, second = random.choice(list(TOPICS), 2, replace=False).tolist()
        return network.prompt(f"{sentence(random, first)[:-1]} and {sentence(random, second)}", 0)
    assert isinstance(network, Language)
    return network.prompt(_told_twice(random))


def _told_twice(random: np.random.Generator) -> Drawn:
    """A key with two values, or a symbol that two others followed."""
    skill = int(random.integers(2))
    room = int(random.choice(LENGTHS)) - 2
    symbols = (len(SKILLS) + random.choice(SYMBOLS, room, replace=False)).tolist()
    if skill == SKILLS.index("recall"):
        keys = (len(SKILLS) + random.choice(SYMBOLS // 2, room // 2, replace=False)).tolist()
        values = (len(SKILLS) + SYMBOLS // 2 + random.choice(SYMBOLS // 2, room // 2, replace=False)).tolist()
        symbols = [token for pair in zip(keys, values, strict=True) for token in pair]
    places = range(0, len(symbols) - 1, 2)
    one, other = random.choice(len(places), 2, replace=False).tolist()
    symbols[places[other]] = symbols[places[one]]
    tokens = [skill, *symbols, symbols[places[one]]]
    assert max(tokens) < FIRST_NOUN
    return Drawn(np.array(tokens, np.int64), symbols[places[one] + 1])


def in_eight_bits(weight: Tensor) -> Tensor:
    """Each row in steps of its largest value / 127."""
    step = weight.abs().amax(-1, keepdim=True).clamp(min=1e-12) / 127
    return (weight / step).round() * step


@torch.no_grad()
def plant(case: Case) -> Planted:
    network = case.network
    # Half precision flips images alone: of texts, too few come as near to a tie as that.
    half = isinstance(network, Digits) and case.random.random() < 0.5
    for parameter in case.module.parameters():
        if half:
            parameter.copy_(parameter.to(torch.bfloat16))
        elif parameter.ndim == 2:
            parameter.copy_(in_eight_bits(parameter))
    draw = blends(network, case.healthy) if isinstance(network, Digits) else nearest(network, case.healthy)
    return Planted(f"all weights in {'bfloat16' if half else 'eight bits'}", prompts=draw)


KIND = Kind("noise_level", "healthy", ("gpt2", "llama", "minilm", "digits"), plant)
