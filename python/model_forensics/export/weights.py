"""Writing a fix set as edited weights: saved, loaded again, run, and only then put in place."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_model as load_weights
from safetensors.torch import save_model as save_weights
from torch import Tensor

from model_forensics.errors import InterventionError, StorageError, UsageError
from model_forensics.export.outputs import departure
from model_forensics.export.weight_edits import copied_weights, edited_weights
from model_forensics.files import atomic_directory, dump_json
from model_forensics.models import Model, load_model
from model_forensics.models.loading import without_progress_bar
from model_forensics.types import FixedRuns

RECORD = "fix.json"


@dataclass(frozen=True)
class WrittenWeights:
    """Edited weights that were written.

    Attributes:
        weights_digest: of the edited model, loaded from what was written.
        changed: names of the tensors that differ from the model's.
        error: the largest departure of its outputs from those under the fix set, relative to the largest logit.
        equals_donor: whether it is, tensor for tensor, the donor model.
    """

    weights_digest: str
    changed: tuple[str, ...]
    error: float
    equals_donor: bool

    def facts(self) -> dict[str, Any]:
        """As JSON names them."""
        return {
            "weights_digest": self.weights_digest,
            "changed": self.changed,
            "max_error": self.error,
            "equals_donor": self.equals_donor,
        }


def check_weights_target(directory: Path, *, overwrite: bool) -> None:
    """Whether weights can be written here; before the work.

    Raises:
        UsageError: something is there and `overwrite` is false, or it is no directory that this function wrote.
    """
    if not os.path.lexists(directory):
        return
    if not overwrite:
        raise UsageError("already exists", where=directory, cure="Choose another name, or replace it with --force")
    if not (directory / RECORD).is_file():
        raise UsageError(
            f"exists and holds no {RECORD}, so it is no export", where=directory, cure="Choose another name"
        )


def write_weights(
    directory: Path,
    runs: FixedRuns,
    model: Model,
    donor: Model | None,
    *,
    record: Mapping[str, Any],
    overwrite: bool = False,
) -> WrittenWeights:
    """Saves a copy of the model in which the fix set is part of the weights. The model itself stays as it is.

    Args:
        record: what else `fix.json` in the directory should say.

    Raises:
        UsageError: as `check_weights_target`.
        InterventionError: the set cannot be written as weights (names the site and the reason), or the edited model
            does not give the same outputs; nothing is written.
        StorageError: the directory cannot be written.
    """
    check_weights_target(directory, overwrite=overwrite)
    changes = _found(runs, model, donor)
    with _changed(model, changes), atomic_directory(directory, overwrite=overwrite) as place:
        again = _saved(model, place)
        error = departure(again, runs)
        _require(error, runs, "the edited model, loaded again,")
        digest, tensors = again.reference.weights_digest, again.reference.tensor_digests
        assert digest is not None
        same = donor is not None and tensors == donor.reference.tensor_digests
        written = WrittenWeights(digest, tuple(sorted(changes)), error, same)
        (place / RECORD).write_bytes(dump_json({**record, **written.facts()}))
    return written


def _found(runs: FixedRuns, model: Model, donor: Model | None) -> dict[str, Tensor]:
    """The tensors that must change, the fewest that do."""
    state = model.module.state_dict()
    needed = _sufficient(runs, model, donor)
    return {name: value for name, value in needed.items() if not torch.equal(value.to(state[name]), state[name])}


def _sufficient(runs: FixedRuns, model: Model, donor: Model | None) -> dict[str, Tensor]:
    fixed = [site for site in runs.sites if site.constant is not None]
    patched = [site for site in runs.sites if site.constant is None]
    changes = edited_weights(model, fixed)
    if not patched:
        return changes
    tried: list[float] = []
    for copied in copied_weights(model, donor, patched):
        both = {**copied, **changes}
        with _changed(model, both):
            tried.append(departure(model, runs))
        if tried[-1] <= runs.tolerance:
            return both
    raise InterventionError(
        "copying the donor's weights there does not give what the patch gives: outputs depart by "
        f"{min(tried):.3g} of the largest logit (limit {runs.tolerance:.3g}), so the donor also differs before it",
        where=", ".join(site.intervention.site for site in patched),
        cure="Use --export-hook, which asks the donor",
    )


@contextmanager
def _changed(model: Model, changes: Mapping[str, Tensor]) -> Iterator[None]:
    """The model with these tensors in place of its own, and afterwards as before, bit for bit."""
    state = model.module.state_dict()
    before = {name: state[name].clone() for name in changes}
    try:
        with torch.no_grad():
            for name, value in changes.items():
                state[name].copy_(value)
        yield
    finally:
        with torch.no_grad():
            for name, value in before.items():
                state[name].copy_(value)


def _saved(model: Model, place: Path) -> Model:
    """Write the model, as `save_pretrained` does where it can, and load what was written."""
    save: Any = getattr(model.module, "save_pretrained", None)
    if save is not None and model.factory is None:
        with without_progress_bar(importlib.import_module("transformers")), _named_errors(place):
            save(place, safe_serialization=True)
        keep: Any = getattr(model.tokenizer, "save_pretrained", None)
        if keep is not None:
            keep(place)
        return load_model(place, device=str(model.device), local_files_only=True)
    if model.factory is None:
        raise InterventionError(
            "the model is a module in memory that does not know how to save itself",
            cure="Give the model's directory, or a model factory",
        )
    file = place / "model.safetensors"
    with _named_errors(place):
        save_weights(model.module, str(file))
    again = load_model(model.source, factory=model.factory, device=str(model.device))
    load_weights(again.module, str(file))
    again.forget_digests()
    return again


@contextmanager
def _named_errors(place: Path) -> Iterator[None]:
    """A full or failing disk under safetensors is no `OSError` but an error of its own."""
    try:
        yield
    except SafetensorError as problem:
        cure = "Check the disk's free space, or choose another directory, and run it again"
        raise StorageError(f"writing failed: {problem}", where=place, cure=cure) from problem


def _require(error: float, runs: FixedRuns, what: str) -> None:
    if error > runs.tolerance:
        raise InterventionError(
            f"no weights are written: outputs of {what} depart by {error:.3g} of the largest logit"
            f" (limit {runs.tolerance:.3g})",
            cure="Use --export-hook, which changes no weights",
        )
