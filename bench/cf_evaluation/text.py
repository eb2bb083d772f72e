"""Natural English that every Python installation carries: the language reference behind `help()`."""

from __future__ import annotations

import re
from pydoc_data.topics import topics

import numpy as np

FEWEST_WORDS, MOST_WORDS = 4, 40
LETTERS = 0.75  # share of letters and spaces below which a sentence is rather code
SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")


def paragraphs() -> list[str]:
    """Running text without headings, tables, grammar and code; in the order of the topics' names."""
    found = []
    for name in sorted(topics):
        for block in topics[name].split("\n\n"):
            lines = block.splitlines()
            if any(line.startswith("   ") or line.endswith("::") for line in lines):
                continue
            text = " ".join(" ".join(lines).split())
            if len(text.split()) >= FEWEST_WORDS and sum(c.isalpha() or c == " " for c in text) >= LETTERS * len(text):
                found.append(text)
    return list(dict.fromkeys(found))


def sentences(count: int, seed: int) -> list[str]:
    """Distinct sentences of 4 to 40 words in random order.

    Raises:
        ValueError: there are fewer than `count`.
    """
    known = dict.fromkeys(sentence for text in paragraphs() for sentence in SENTENCE_END.split(text))
    fitting = [sentence for sentence in known if FEWEST_WORDS <= len(sentence.split()) <= MOST_WORDS]
    if len(fitting) < count:
        raise ValueError(f"{len(fitting)} sentences, {count} asked for")
    order = np.random.default_rng(seed).permutation(len(fitting))[:count]
    return [fitting[number] for number in order]


def snippets(text: str, count: int, shortest: int, longest: int, seed: int) -> list[str]:
    """Disjoint stretches of `text`, `shortest` to `longest` characters long, in random order.

    Raises:
        ValueError: the text is too short for `count` of them.
    """
    places = len(text) // longest
    if places < count:
        raise ValueError(f"room for {places} snippets, {count} asked for")
    rng = np.random.default_rng(seed)
    starts = rng.permutation(places)[:count] * longest
    lengths = rng.integers(shortest, longest + 1, size=count)
    return [text[start : start + length] for start, length in zip(starts.tolist(), lengths.tolist(), strict=True)]
