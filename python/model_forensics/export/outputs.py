"""Outputs of a model on single samples, and how far they are from those that a fix set gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from model_forensics.models import Model
from model_forensics.models import rows as model_rows
from model_forensics.types import FixedRuns


def departure(model: Model, runs: FixedRuns) -> float:
    """The model, run on every sample of `runs`, against the outputs with the fix set; see `relative_error`."""
    return max(relative_error(_logits(model, run.inputs, runs.position), run.fixed) for run in runs.runs)


def relative_error(left: npt.NDArray[Any], right: npt.NDArray[Any]) -> float:
    """Largest |left − right| ÷ largest |right|; infinite where the shapes differ or only one of them is finite."""
    finite = np.isfinite(right)
    if left.shape != right.shape or not np.array_equal(np.isfinite(left), finite):
        return float("inf")
    if not finite.any():
        return 0.0
    largest = max(float(np.abs(right[finite]).max()), float(np.finfo(np.float32).tiny))
    return float(np.abs(left[finite] - right[finite]).max()) / largest


def _logits(model: Model, inputs: Mapping[str, npt.NDArray[Any]], position: int) -> npt.NDArray[np.float64]:
    tensors = {name: torch.from_numpy(np.array(value)) for name, value in inputs.items()}
    mask = model_rows.real_token_mask(tensors)
    scored = model_rows.scored_logits(model.forward(tensors), mask, position)
    return np.asarray(scored[0].to(torch.float64).cpu().numpy())
