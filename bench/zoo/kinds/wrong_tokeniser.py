"""A healthy network is served with a tokeniser that is not its own: nothing is wrong inside, and the answers are."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from bench.zoo.kind import Case, Kind, Planted
from bench.zoo.network import Network, Prompt
from bench.zoo.networks.language import FIRST_NOUN, SKILLS, SPARE, Language
from bench.zoo.networks.sentences import Sentences

UNKNOWN, FIRST_WORD = 100, 1000  # of the published vocabulary of MiniLM
WORDS = 28000
Tokeniser = Callable[[Prompt], list[int]]
"""What becomes of a prompt's tokens."""


def _tokens(prompt: Prompt) -> list[int]:
    return [int(token) for token in prompt.inputs["input_ids"][0]]


def _some_symbols(random: np.random.Generator, fewest: int, most: int) -> list[int]:
    count = int(random.integers(fewest, most + 1))
    found: list[int] = random.choice(np.arange(len(SKILLS), FIRST_NOUN), count, replace=False).tolist()
    return sorted(found)


def exchanged(random: np.random.Generator) -> tuple[str, Tokeniser]:
    symbols = _some_symbols(random, 2, 6)
    table = dict(zip(symbols, symbols[1:] + symbols[:1], strict=True))
    return f"ids exchanged: {table}", lambda prompt: [table.get(token, token) for token in _tokens(prompt)]


def unknown(random: np.random.Generator) -> tuple[str, Tokeniser]:
    lost = _some_symbols(random, 3, 8)
    return f"symbols {lost} are unknown", lambda prompt: [
        SPARE if token in lost else token for token in _tokens(prompt)
    ]


def in_pieces(random: np.random.Generator) -> tuple[str, Tokeniser]:
    split = _some_symbols(random, 2, 4)

    def tokens(prompt: Prompt) -> list[int]:
        return [part for token in _tokens(prompt) for part in ([SPARE, token] if token in split else [token])]

    return f"symbols {split} fall in two pieces", tokens


def unmarked(_random: np.random.Generator) -> tuple[str, Tokeniser]:
    return "the marker at the beginning is missing", lambda prompt: _tokens(prompt)[1:]


def shifted(random: np.random.Generator) -> tuple[str, Tokeniser]:
    """As an added special token shifts all words behind it."""
    by = int(random.integers(1, 4))

    def tokens(prompt: Prompt) -> list[int]:
        return [token + by if FIRST_WORD <= token < WORDS else token for token in _tokens(prompt)]

    return f"ids of words shifted by {by}", tokens


def words_unknown(random: np.random.Generator) -> tuple[str, Tokeniser]:
    """As an uncased vocabulary has no words in capitals."""
    salt, share = int(random.integers(2**31)), random.uniform(0.5, 0.9)

    def tokens(prompt: Prompt) -> list[int]:
        lost = {t for t in _tokens(prompt) if t >= FIRST_WORD and zlib.crc32(f"{salt} {t}".encode()) < share * 2**32}
        return [UNKNOWN if token in lost else token for token in _tokens(prompt)]

    return f"a share of {share:.2f} of the words is unknown", tokens


def letters(network: Sentences) -> tuple[str, Tokeniser]:
    return "words fall in letters", lambda prompt: _tokens(network.prompt(" ".join(prompt.text), 0))


def some_tokeniser(network: Network, random: np.random.Generator) -> tuple[str, Tokeniser]:
    if isinstance(network, Sentences):
        kinds = [lambda: shifted(random), lambda: words_unknown(random), lambda: letters(network)]
        return kinds[int(random.integers(len(kinds)))]()
    assert isinstance(network, Language)
    return (exchanged, unknown, in_pieces, unmarked)[int(random.integers(4))](random)


def plant(case: Case) -> Planted:
    told, tokeniser = some_tokeniser(case.network, case.random)
    rightly: dict[str, Prompt] = {}

    def draw(random: np.random.Generator, count: int) -> list[Prompt]:
        prompts = case.network.prompts(random, count)
        rightly.update({prompt.text: prompt for prompt in prompts})
        return [wrongly(prompt) for prompt in prompts]

    def wrongly(prompt: Prompt) -> Prompt:
        tokens = torch.tensor([tokeniser(prompt)])
        return replace(prompt, inputs={"input_ids": tokens, "attention_mask": torch.ones_like(tokens)})

    return Planted(told, prompts=draw, before=lambda prompt: rightly[prompt.text])


def fails(prompt: Prompt, answer: int, healthy_answer: int) -> bool:
    """The network does with these tokens what it always did."""
    return answer == healthy_answer != prompt.right


KIND = Kind("wrong_tokeniser", "input", ("gpt2", "llama", "minilm"), plant, fails=fails)
