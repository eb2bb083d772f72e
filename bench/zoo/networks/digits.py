"""A vision transformer on scikit-learn's handwritten digits (1,797 images of 8 × 8)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from bench.zoo.network import Network, Prompt, load_pretrained, save_pretrained
from bench.zoo.training import Step, Trained, fit
from model_forensics.failure import Failure

TRAINED = 1100  # images; prompts come from the others
NOISE = 0.02  # of the range of a pixel, so that one image asks many questions
STEPS, BATCH = 900, 64
LAYERS, WIDTH = 4, 48


class Digits(Network):
    name = "digits"
    failure = Failure.label()

    def train(self, seed: int) -> Trained:
        torch.manual_seed(seed)
        generator = np.random.default_rng([seed, 12])
        images, digits = self._images()

        def batch(_step: int) -> Step:
            chosen = generator.integers(TRAINED, size=BATCH)
            return Step({"pixel_values": _noisy(images[chosen], generator, 2 * NOISE)}, digits[chosen])

        return fit(vision_transformer(), batch, STEPS, rate=2e-3)

    def prompts(self, generator: np.random.Generator, count: int) -> list[Prompt]:
        images, digits = self._images()
        chosen = generator.integers(TRAINED, len(images), size=count).tolist()
        return [self.prompt(_noisy(images[i : i + 1], generator, NOISE), int(digits[i]), f"image {i}") for i in chosen]

    @staticmethod
    def prompt(image: Tensor, digit: int, text: str) -> Prompt:
        return Prompt(inputs={"pixel_values": image}, right=digit, text=text)

    @staticmethod
    def _images() -> tuple[Tensor, Tensor]:
        """[images, 1, 8, 8] in -1 to 1, and their digits; in one random order."""
        from sklearn.datasets import load_digits  # noqa: PLC0415  (only here)

        loaded = load_digits()
        order = np.random.default_rng(0).permutation(len(loaded.target))
        pixels = torch.from_numpy(loaded.images[order]).to(torch.float32) / 8 - 1
        return pixels[:, None], torch.from_numpy(loaded.target[order]).to(torch.int64)

    def save(self, module: nn.Module, directory: Path) -> None:
        save_pretrained(module, directory)

    def load(self, directory: Path) -> nn.Module:
        return load_pretrained(directory)


def _noisy(images: Tensor, generator: np.random.Generator, size: float) -> Tensor:
    noise = generator.normal(0, 2 * size, tuple(images.shape)).astype(np.float32)
    return images + torch.from_numpy(noise)


def vision_transformer() -> nn.Module:
    from transformers import ViTConfig, ViTForImageClassification  # noqa: PLC0415

    return ViTForImageClassification(
        ViTConfig(
            image_size=8, patch_size=2, num_channels=1, num_labels=10, hidden_size=WIDTH, intermediate_size=3 * WIDTH,
            num_hidden_layers=LAYERS, num_attention_heads=4, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        )
    )  # fmt: skip
