"""The transformer of `model-forensics demo`, which looks up a field of a record; its weights ship with the package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from bench.zoo.network import Network, Prompt, load_pretrained, save_pretrained
from bench.zoo.training import Trained
from model_forensics.demo import data_directory, task
from model_forensics.failure import Failure


class Lookup(Network):
    name = "lookup"
    failure = Failure.token()

    def train(self, seed: int) -> Trained:
        """Seed 0 is the one that ships. There is no earlier checkpoint: it stands in for itself."""
        from model_forensics.demo.train import train  # noqa: PLC0415  (needs the hf extra)

        if seed:
            module: nn.Module = train(seed)
            return Trained(module, module)
        with data_directory() as data:
            module = load_pretrained(data / "reference")
        return Trained(module, module)

    def prompts(self, generator: np.random.Generator, count: int) -> list[Prompt]:
        return [self.prompt(task.draw_prompt(generator)) for _ in range(count)]

    @staticmethod
    def prompt(drawn: task.Prompt) -> Prompt:
        tokens = torch.from_numpy(drawn.tokens[None].copy())
        inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
        return Prompt(inputs=inputs, right=drawn.answer, text=drawn.text)

    def save(self, module: nn.Module, directory: Path) -> None:
        save_pretrained(module, directory)

    def load(self, directory: Path) -> nn.Module:
        return load_pretrained(directory)
