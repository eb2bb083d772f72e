"""Rare but healthy inputs: longer, noisier or worse written than anything the network learned, so that it is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from bench.zoo.kind import Case, Kind, Planted
from bench.zoo.network import Prompt
from bench.zoo.networks.digits import Digits
from bench.zoo.networks.language import FIRST_FILLER, FIRST_NOUN, LENGTHS, LONGEST, Drawn, Language, draw
from bench.zoo.networks.sentences import TOPICS, Sentences, sentence


def long_prompts(network: Language, longest: int, random: np.random.Generator, count: int) -> list[Prompt]:
    """Longer than any that the network learned, as long as there are symbols."""
    found = []
    for _ in range(count):
        skill, length = int(random.integers(2)), int(random.integers(max(LENGTHS) + 2, longest + 1))
        found.append(network.prompt(draw(random, skill, length)))
    return found


def disturbed(network: Language, share: float, random: np.random.Generator, count: int) -> list[Prompt]:
    """Words of another skill between those that are asked about."""
    found = []
    for _ in range(count):
        drawn = draw(random, int(random.integers(2)), int(random.choice(LENGTHS)))
        tokens = drawn.tokens[:1].tolist()
        for token in drawn.tokens[1:-1].tolist():
            foreign = random.random() < share and len(tokens) < LONGEST - len(drawn.tokens)
            tokens += [token, *foreign * [int(random.integers(FIRST_NOUN, FIRST_FILLER))]]
        tokens.append(int(drawn.tokens[-1]))
        found.append(network.prompt(Drawn(np.array(tokens, np.int64), drawn.answer)))
    return found


def misspelt(network: Sentences, share: float, random: np.random.Generator, count: int) -> list[Prompt]:
    """Sentences in which letters of some words are exchanged with their neighbours or left out."""
    topics = list(TOPICS)
    found = []
    for topic in random.integers(len(topics), size=count).tolist():
        words = sentence(random, topics[topic]).split(" ")
        wrong = [_misspelt(word, random) if len(word) > 2 and random.random() < share else word for word in words]
        found.append(network.prompt(" ".join(wrong), topic))
    return found


def _misspelt(word: str, random: np.random.Generator) -> str:
    place = int(random.integers(len(word) - 1))
    return word[:place] + word[place + 1] + random.choice([word[place], ""]) + word[place + 2 :]


@dataclass(frozen=True)
class Photograph:
    """How bad it is: noise and light in shares of a pixel's range, and by how many pixels the digit is off."""

    noise: float
    light: float
    shift: int


def badly_taken(network: Digits, how: Photograph, random: np.random.Generator, count: int) -> list[Prompt]:
    return [_badly_taken(network, how, random, prompt) for prompt in network.prompts(random, count)]


def _badly_taken(network: Digits, how: Photograph, random: np.random.Generator, prompt: Prompt) -> Prompt:
    image = prompt.inputs["pixel_values"]
    noise = torch.from_numpy(random.normal(0, 2 * how.noise, tuple(image.shape)).astype(np.float32))
    across, down = random.integers(-how.shift, how.shift + 1, size=2).tolist()
    moved = torch.roll(image, (down, across), dims=(-2, -1))
    return network.prompt(moved * (1 - how.light) + how.light + noise, prompt.right, prompt.text)


def plant(case: Case) -> Planted:
    network, random = case.network, case.random
    found: tuple[str, Callable[[np.random.Generator, int], list[Prompt]]]
    if isinstance(network, Digits):
        how = Photograph(random.uniform(0, 0.3), random.uniform(0, 0.5), int(random.integers(2)))
        found = f"photographs: {how}", partial(badly_taken, network, how)
    elif isinstance(network, Sentences):
        share = random.uniform(0.5, 1)
        found = f"misspelt words: a share of {share:.2f}", partial(misspelt, network, share)
    else:
        assert isinstance(network, Language)
        found = _rare_texts(network, random)
    return Planted(found[0], prompts=found[1])


def _rare_texts(
    network: Language, random: np.random.Generator
) -> tuple[str, Callable[[np.random.Generator, int], list[Prompt]]]:
    if random.random() < 0.5:
        longest = int(random.integers(max(LENGTHS) + 2, 17))
        return f"prompts of up to {longest} tokens", partial(long_prompts, network, longest)
    share = random.uniform(0.2, 0.8)
    return f"words of another skill after a share of {share:.2f}", partial(disturbed, network, share)


def fails(prompt: Prompt, answer: int, healthy_answer: int) -> bool:
    """The network is what it always was, and wrong."""
    return answer == healthy_answer != prompt.right


KIND = Kind("rare_inputs", "healthy", ("gpt2", "llama", "minilm", "digits"), plant, fails=fails)
