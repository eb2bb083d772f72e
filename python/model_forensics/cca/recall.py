"""Healthy runs that need not be made again: those of a reference model, and of the model on inputs that did not fail.

They are values to write, not proofs, so a caller may keep them. The incident's own run and every edited one is made
each time: that is what a result stands on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from model_forensics.cca.calls import Calls
from model_forensics.cca.replay import Run, run_recording
from model_forensics.models import Model, Tap
from model_forensics.types import Recording

Tensors = dict[str, torch.Tensor]


class Recall(Protocol):
    """Gives what `compute` would give, bit for bit."""

    def __call__(self, model: Model, of: Mapping[str, Any], compute: Callable[[], Tensors]) -> Tensors:
        """
        Args:
            model: that computes.
            of: JSON values that, with the model, say everything that the result depends on.
        """


def anew(model: Model, of: Mapping[str, Any], compute: Callable[[], Tensors]) -> Tensors:
    """Keeps nothing."""
    return compute()


def healthy_run(recall: Recall, model: Model, calls: Calls, taps: Sequence[Tap], position: int) -> Run:
    """As `run_recording`."""
    names = [tap.name for tap in taps]
    of = {"run": [inputs_digest(calls.recording)], "sites": names, "position": position}
    found = recall(model, of, lambda: _flat(run_recording(model, calls, taps, position)))
    samples = range(len(calls.recording.samples))
    return Run(
        tuple(found[f"/{index}"].numpy() for index in samples),
        {name: tuple(found[f"{name}/{index}"] for index in samples) for name in names if f"{name}/0" in found},
    )


def _flat(run: Run) -> Tensors:
    logits = {f"/{index}": torch.from_numpy(np.asarray(values)) for index, values in enumerate(run.logits)}
    rows = {f"{name}/{i}": row for name, values in run.activations.items() for i, row in enumerate(values)}
    return {**logits, **rows}


def inputs_digest(recording: Recording) -> str:
    """Of the calls that its samples belong to, with their batches as recorded, and of where in them the samples are."""
    digest = hashlib.sha256()
    for sample in recording.samples:
        digest.update(f"sample {sample.call} {sample.row};".encode())
    for call in dict.fromkeys(sample.call for sample in recording.samples):
        for name, array in sorted(recording.inputs(call).items()):
            digest.update(f"{call} {name}:{array.dtype}:{array.shape};".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
