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


def said_otherwise(model: Model, runs: FixedRuns) -> int:
    """How many prompts of a text failure the model continues otherwise than with the fix set."""
    masked = "attention_mask" in runs.runs[0].inputs
    told = [run.told for run in runs.runs if run.told is not None]
    return sum(_said(model, one.prompt, runs, masked=masked) != one.fixed for one in told)


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


def _said(model: Model, prompt: tuple[int, ...], runs: FixedRuns, *, masked: bool) -> tuple[int, ...]:
    """What the model generates behind a prompt: the likeliest token at each step."""
    said: tuple[int, ...] = ()
    while len(said) < runs.longest and not (said and said[-1] in runs.ends):
        ids = torch.tensor([prompt + said])
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)} if masked else {"input_ids": ids}
        logits = model.forward(inputs)[0, -1]
        if not bool(logits.isfinite().all()):
            break
        said = (*said, int(logits.argmax()))
    return said
