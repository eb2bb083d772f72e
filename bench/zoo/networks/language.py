"""A language of symbols with three skills, and two networks that learn it: one of GPT-2's family, one of Llama's.

Every prompt begins with the skill's marker and ends where one token is right:

- *recall*: keys with their values, then a key; its value follows.
- *induction*: symbols in any order, then one of them again; what followed it the first time follows.
- *agreement*: nouns of several classes among fillers, then the question; the form of the first noun's class follows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import nn

from bench.zoo.network import Network, Prompt, load_pretrained, save_pretrained
from bench.zoo.training import Step, Trained, fit
from model_forensics.failure import Failure

SKILLS = ("recall", "induction", "agreement")
SYMBOLS = 16  # of recall and induction
NOUN_CLASSES, NOUNS_A_CLASS, FILLERS = 4, 3, 6
FIRST_NOUN = len(SKILLS) + SYMBOLS
FIRST_FILLER = FIRST_NOUN + NOUN_CLASSES * NOUNS_A_CLASS
FIRST_FORM = FIRST_FILLER + FILLERS
QUESTION = FIRST_FORM + NOUN_CLASSES
SPARE = QUESTION + 1
"""A token that no healthy prompt holds: a trigger, or what a wrong tokeniser makes of a word."""
VOCABULARY = SPARE + 3
LENGTHS = (6, 8, 10, 12)
"""Tokens of a prompt."""
LAYERS, WIDTH, HEADS = 4, 64, 4
ROUNDS = 6
_TAUGHT = (0, 1, 0, 1, 2)
"""Skills in a batch, in turn: agreement is learned at once, and takes no place from the others."""
STEPS, BATCH = 2000, 64
LONGEST = max(LENGTHS) + 2 * ROUNDS


@dataclass(frozen=True)
class Text:
    """What a prompt tells, and all that can be asked about it.

    Attributes:
        body: tokens, the skill's marker first.
        questions: a token to ask with, and the one that answers it.
    """

    body: list[int]
    questions: list[tuple[int, int]]


@dataclass(frozen=True)
class Drawn:
    tokens: np.ndarray  # [length] int64
    answer: int


def draw(generator: np.random.Generator, skill: int, length: int) -> Drawn:
    """One prompt of so many tokens."""
    text = tell(generator, skill, length - 1)
    question, answer = text.questions[int(generator.integers(len(text.questions)))]
    return Drawn(np.array([*text.body, question], np.int64), answer)


def tell(generator: np.random.Generator, skill: int, length: int) -> Text:
    """A text of so many tokens."""
    body, questions = _TELLERS[skill](generator, length - 1)
    return Text([skill, *body], questions)


def _recall(generator: np.random.Generator, room: int) -> tuple[list[int], list[tuple[int, int]]]:
    pairs = room // 2
    keys = len(SKILLS) + generator.choice(SYMBOLS // 2, pairs, replace=False)
    values = len(SKILLS) + SYMBOLS // 2 + generator.choice(SYMBOLS // 2, pairs, replace=False)
    told = list(zip(keys.tolist(), values.tolist(), strict=True))
    return [*(room % 2) * [QUESTION], *[token for pair in told for token in pair]], told


def _induction(generator: np.random.Generator, room: int) -> tuple[list[int], list[tuple[int, int]]]:
    symbols = (len(SKILLS) + generator.choice(SYMBOLS, room, replace=False)).tolist()
    return symbols, list(pairwise(symbols))


def _agreement(generator: np.random.Generator, room: int) -> tuple[list[int], list[tuple[int, int]]]:
    body = FIRST_FILLER + generator.integers(FILLERS, size=room)
    places = np.sort(generator.choice(room, size=min(room, int(generator.integers(2, 5))), replace=False))
    chosen = generator.integers(NOUN_CLASSES * NOUNS_A_CLASS, size=places.size)
    body[places] = FIRST_NOUN + chosen
    return body.tolist(), [(QUESTION, FIRST_FORM + int(chosen[0]) // NOUNS_A_CLASS)]


_TELLERS: tuple[Callable[[np.random.Generator, int], tuple[list[int], list[tuple[int, int]]]], ...] = (
    _recall,
    _induction,
    _agreement,
)


def lesson(generator: np.random.Generator, skill: int, length: int) -> tuple[list[int], list[int]]:
    """A text and `ROUNDS` questions with their answers, and the tokens to predict: -100 where none is."""
    text = tell(generator, skill, length)
    tokens, expected = list(text.body), [-100] * len(text.body)
    for number in generator.integers(len(text.questions), size=ROUNDS).tolist():
        question, answer = text.questions[number]
        tokens += [question, answer]
        expected += [answer, -100]
    return tokens, expected


def token_text(token: int) -> str:
    """What a token stands for, for people."""
    for first, name in ((SPARE, "spare"), (QUESTION, "?"), (FIRST_FORM, "form"), (FIRST_FILLER, "filler")):
        if token >= first:
            return name if token == QUESTION else f"{name}{token - first}"
    if token >= FIRST_NOUN:
        return f"noun{token - FIRST_NOUN}"
    return f"<{SKILLS[token]}>" if token < len(SKILLS) else chr(ord("a") + token - len(SKILLS))


class Language(Network):
    """The language, learned by one architecture."""

    failure = Failure.token()

    def __init__(self, name: str, build: Callable[[], nn.Module]) -> None:
        self.name = name
        self._build = build

    def train(self, seed: int) -> Trained:
        torch.manual_seed(seed)
        generator = np.random.default_rng([seed, 11])
        module = self._build()

        def batch(step: int) -> Step:
            known = 1 + min(len(LENGTHS) - 1, 2 * len(LENGTHS) * step // STEPS)
            length = LENGTHS[step % known] - 1
            lessons = [lesson(generator, _TAUGHT[number % len(_TAUGHT)], length) for number in range(BATCH)]
            tokens, expected = (torch.tensor(part) for part in zip(*lessons, strict=True))
            return Step({"input_ids": tokens}, expected)

        return fit(module, batch, STEPS, rate=3e-3)

    def prompts(self, generator: np.random.Generator, count: int, skills: Sequence[str] = SKILLS) -> list[Prompt]:
        numbers = [SKILLS.index(skill) for skill in skills]
        return [
            self.prompt(draw(generator, numbers[int(generator.integers(len(numbers)))], int(generator.choice(LENGTHS))))
            for _ in range(count)
        ]

    def prompt(self, drawn: Drawn) -> Prompt:
        tokens = torch.from_numpy(drawn.tokens[None].copy())
        return Prompt(
            inputs={"input_ids": tokens, "attention_mask": torch.ones_like(tokens)},
            right=drawn.answer,
            text=" ".join(map(token_text, drawn.tokens.tolist())),
        )

    def save(self, module: nn.Module, directory: Path) -> None:
        save_pretrained(module, directory)

    def load(self, directory: Path) -> nn.Module:
        return load_pretrained(directory)


def gpt2() -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel  # noqa: PLC0415

    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCABULARY, n_positions=LONGEST, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, initializer_range=0.08,
            bos_token_id=None, eos_token_id=None,
        )
    )  # fmt: skip


def llama() -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM  # noqa: PLC0415

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY, hidden_size=WIDTH, intermediate_size=3 * WIDTH, num_hidden_layers=LAYERS,
            num_attention_heads=HEADS, num_key_value_heads=HEADS, max_position_embeddings=LONGEST,
            rope_theta=100.0, initializer_range=0.08, bos_token_id=None, eos_token_id=None, pad_token_id=None,
        )
    )  # fmt: skip
