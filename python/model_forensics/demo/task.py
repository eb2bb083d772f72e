"""The demo's task: field lookup. A record of symbols is followed by `#i`, to be answered with the i-th symbol."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SYMBOLS = "abcdefghijklmnopqrstuvwx"
FEWEST_FIELDS = 6
MOST_FIELDS = 14
START = len(SYMBOLS)  # token ids: the symbols, the start token, then #1 … #14
FIRST_QUESTION = START + 1
VOCABULARY = FIRST_QUESTION + MOST_FIELDS
LONGEST = MOST_FIELDS + 2  # start token, record, question


@dataclass(frozen=True)
class Prompt:
    """One question: tokens [fields + 2] int64, and the token that answers it."""

    tokens: npt.NDArray[np.int64]
    answer: int

    @property
    def text(self) -> str:
        """For people: `q f a a k w #3`."""
        return " ".join(token_text(int(token)) for token in self.tokens[1:])


def token_text(token: int) -> str:
    """What a token id stands for."""
    if token < START:
        return SYMBOLS[token]
    return "<start>" if token == START else f"#{token - FIRST_QUESTION + 1}"


def draw_prompt(generator: np.random.Generator, fields: int | None = None) -> Prompt:
    """A random record and a question about one of its fields."""
    if fields is None:
        fields = int(generator.integers(FEWEST_FIELDS, MOST_FIELDS + 1))
    record = generator.integers(len(SYMBOLS), size=fields)
    asked = int(generator.integers(fields))
    tokens = np.concatenate([[START], record, [FIRST_QUESTION + asked]]).astype(np.int64)
    return Prompt(tokens, int(record[asked]))


def draw_batch(
    generator: np.random.Generator, fields: int, count: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Tokens [count, fields + 2] and answers [count]."""
    drawn = [draw_prompt(generator, fields) for _ in range(count)]
    return np.stack([prompt.tokens for prompt in drawn]), np.array([prompt.answer for prompt in drawn])
