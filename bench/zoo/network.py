"""What the zoo asks of a network: that it can be trained, stored, loaded, and asked something with a known answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from bench.zoo.training import Trained
from model_forensics.failure import Failure
from model_forensics.models import load_model
from model_forensics.models.loading import without_progress_bar


@dataclass(frozen=True)
class Prompt:
    """An input whose right answer is known.

    Attributes:
        inputs: of the module, a batch of one.
        right: the token or class that is right.
        text: for people; prompts with one text are one group.
    """

    inputs: dict[str, Tensor]
    right: int
    text: str


class Network(ABC):
    """A small network with real behaviour.

    Attributes:
        name: of the directory that it is stored in.
        failure: when an output fails; the samples carry the answers.
    """

    name: str
    failure: Failure

    @abstractmethod
    def train(self, seed: int) -> Trained:
        """The healthy network; deterministic on one machine."""

    @abstractmethod
    def prompts(self, generator: np.random.Generator, count: int) -> list[Prompt]:
        """Fresh ones, none of which the network was trained on, up to chance."""

    @abstractmethod
    def save(self, module: nn.Module, directory: Path) -> None: ...

    @abstractmethod
    def load(self, directory: Path) -> nn.Module: ...


def save_pretrained(module: nn.Module, directory: Path) -> None:
    """As transformers stores a model, silently."""
    import transformers  # noqa: PLC0415

    with without_progress_bar(transformers):
        module.save_pretrained(directory)  # type: ignore[operator]


def load_pretrained(directory: Path) -> nn.Module:
    return load_model(directory, device="cpu", local_files_only=True).module
