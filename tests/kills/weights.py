"""Edited weights: a directory that libraries write, with errors of their own."""

from __future__ import annotations

import shutil
from collections.abc import Hashable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import transformers.models.gpt2.modeling_gpt2  # noqa: F401  (here, and not in every child)

from model_forensics.demo import data_directory
from model_forensics.export import weights
from model_forensics.models import load_model
from tests.kills.scenario import Replacement, contents


def copy_model(root: str) -> None:
    with data_directory() as data:
        shutil.copytree(data / "model", Path(root, "model"))


def export_weights(root: str) -> None:
    stub: Any = weights
    stub._found = lambda *_: {}
    stub.departure = lambda *_: 0.0
    stub.said_otherwise = lambda *_: 0
    runs: Any = SimpleNamespace(tolerance=1.0)
    weights.write_weights(
        Path(root, "weights"), runs, load_model(Path(root, "model")), None, record={"of": "a test"}, overwrite=True
    )


class Weights(Replacement):
    name = "validate-fix --export-weights"
    module = __name__
    prepare = "copy_model"
    act = "export_weights"

    def state(self, root: Path) -> Hashable:
        place = root / "weights"
        return contents(place) if place.exists() else None
