"""Writing a fix set as a hook: composed, run in a process without Model Forensics, and only then put in place."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model_forensics.errors import InterventionError, ModelError, UsageError
from model_forensics.export import hook_check
from model_forensics.export.hook_text import HookText, compose
from model_forensics.export.memory import off_the_gpu
from model_forensics.files import KEY_VARIABLE, OLD_KEY_VARIABLE, atomic_files, storage_errors
from model_forensics.models import Model
from model_forensics.processes import uninterrupted
from model_forensics.types import FixedRuns


def check_hook_target(path: Path, *, overwrite: bool) -> None:
    """Whether a hook can be written here; before the work.

    Raises:
        UsageError: another ending than `.py`, or a file is there and `overwrite` is false.
    """
    if path.suffix != ".py":
        raise UsageError("a hook is a Python file", where=path, cure="Give a name that ends in .py")
    for target in (path, path.with_suffix(".bin")):
        if not overwrite and os.path.lexists(target):
            raise UsageError("already exists", where=target, cure="Choose another name, or replace it with --force")


def write_hook(
    path: Path, runs: FixedRuns, model: Model, donor: Model | None, *, about: Sequence[str], overwrite: bool = False
) -> float:
    """Writes `path`, and beside it a file with the ending `.bin` where the values are large: both or neither.

    A kill between their names leaves a hook that refuses, by name, the values beside it.

    Args:
        about: paragraphs for whoever opens the file.

    Returns:
        The largest departure of the outputs under the hook from those under the fix set, relative to the largest logit.

    Raises:
        UsageError: as `check_hook_target`.
        InterventionError: the set cannot be written as a hook, or the hook does not do the same; nothing is written.
        ModelError: the model has no source that another process could load it from.
        StorageError: the file cannot be written.
    """
    check_hook_target(path, overwrite=overwrite)
    beside = path.with_suffix(".bin")
    digest = model.reference.weights_digest
    assert digest is not None, "loaded models have digests"
    made = compose(
        runs,
        about=about,
        model_digest=digest,
        donor_digest=None if donor is None else donor.reference.weights_digest,
        beside_name=beside.name,
    )
    error = _tried(path, made, runs, [model, donor] if donor is not None and made.asks_donor else [model])
    values = [] if made.beside is None else [(beside, made.beside)]
    atomic_files([*values, (path, made.text.encode("utf-8"))], overwrite=overwrite)
    return error


def _tried(path: Path, made: HookText, runs: FixedRuns, models: Sequence[Model]) -> float:
    """The hook, run where Model Forensics cannot be imported. What was recorded goes there through a pipe: no disk."""
    with _scratch() as folder:
        hook = folder / path.name
        with storage_errors(folder):
            hook.write_text(made.text, encoding="utf-8")
            if made.beside is not None:
                hook.with_suffix(".bin").write_bytes(made.beside)
        arrays = io.BytesIO()
        np.savez(arrays, **_arrays(runs))
        asked = json.dumps(_request(hook, runs, models)).encode() + b"\n" + arrays.getvalue()
        with off_the_gpu(*models):
            answer = _asked(asked)
    if "refused" in answer:
        raise _refusal(f"the exported hook does not run: {answer['refused']}")
    for name, what in (("error", "with the hook"), ("removed_error", "after the hook is removed")):
        found = answer[name]
        if found is None or found > runs.tolerance:
            size = "NaN or Inf" if found is None else f"{found:.3g} of the largest logit"
            raise _refusal(f"outputs {what} depart by {size} (limit {runs.tolerance:.3g})")
    if answer["said_otherwise"]:
        told = f"{answer['said_otherwise']} of {len(runs.runs)} samples are continued otherwise than with the fix set"
        raise _refusal(told)
    return float(answer["error"])


@contextmanager
def _scratch() -> Iterator[Path]:
    """A directory for a moment, which is removed also when Ctrl-C comes while it is."""
    folder = Path(tempfile.mkdtemp(prefix="model-forensics-"))
    try:
        yield folder
    finally:
        with uninterrupted():
            shutil.rmtree(folder)


def _arrays(runs: FixedRuns) -> dict[str, Any]:
    arrays: dict[str, Any] = {}
    for number, run in enumerate(runs.runs):
        arrays[f"{number}/fixed"], arrays[f"{number}/failed"] = run.fixed, run.failed
        arrays.update({f"{number}/inputs/{name}": np.asarray(value) for name, value in run.inputs.items()})
    return arrays


def _request(hook: Path, runs: FixedRuns, models: Sequence[Model]) -> dict[str, Any]:
    first = models[0]
    return {
        "hook": str(hook),
        "models": [_spec(model) for model in models],
        "device": str(first.device),
        "dtype": None if first.dtype is None else str(first.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "samples": len(runs.runs),
        "inputs": [list(run.inputs) for run in runs.runs],
        "position": runs.position,
        **_speech(runs),
    }


def _speech(runs: FixedRuns) -> dict[str, Any]:
    """What is generated behind which prompts with the set on; nothing where the failure is no text."""
    told = [run.told for run in runs.runs if run.told is not None]
    return {
        "prompts": [one.prompt for one in told],
        "said": [one.fixed for one in told],
        "masked": "attention_mask" in runs.runs[0].inputs,
        "longest": runs.longest,
        "ends": runs.ends,
    }


def _spec(model: Model) -> dict[str, str | None]:
    if model.source is None and model.factory is None:
        raise ModelError(
            "the model is only in memory, so no other process can check the hook with it",
            cure="Give the model's directory or hub id, or a model factory",
        )
    return {"source": model.source, "factory": model.factory, "architecture": type(model.module).__name__}


def _asked(request: bytes) -> dict[str, Any]:
    """What `hook_check` answers; it finds the operator's own modules where this process does, and gets no key."""
    environment = {name: value for name, value in os.environ.items() if name not in (KEY_VARIABLE, OLD_KEY_VARIABLE)}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    command = [sys.executable, "-P", str(hook_check.__file__)]
    done = subprocess.run(command, env=environment, input=request, capture_output=True, check=False)
    if done.returncode != 0:
        problems = done.stderr.decode(errors="replace").strip().splitlines()
        last = (problems or [f"it ended with {done.returncode}"])[-1]
        raise _refusal(f"the exported hook could not be tried: {last}")
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def _refusal(what: str) -> InterventionError:
    return InterventionError(
        f"no hook is written: {what}", cure="Use the fix with validate-fix, or export another set of the result"
    )
