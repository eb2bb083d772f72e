"""Donor activations that the operator gives, by site: what a fix that is to be deployed would write."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from model_forensics.cca.donors import PatchDonor
from model_forensics.cca.replay import Run
from model_forensics.errors import InterventionError
from model_forensics.files import open_safetensors, sha256_file, widen_bfloat16
from model_forensics.models import Tap
from model_forensics.types import Donor, Recording

_DIMENSIONS = (1, 2)


@dataclass(frozen=True)
class GivenValues:
    """Replacement activations by name.

    Attributes:
        arrays: floating point, by site (`L3.mlp`, for every sample) or by sample and site (`sample-7/L3.mlp`):
            [features] or [1, features] for every token, or [tokens, features], which declares that row i belongs to
            the sample's token i.
        source: the file, or "memory".
        digest: "sha256:…" of the content.
    """

    arrays: Mapping[str, npt.NDArray[Any]]
    source: str
    digest: str

    @staticmethod
    def of(arrays: Mapping[str, npt.NDArray[Any]]) -> GivenValues:
        """From arrays in memory; torch tensors must be converted first.

        Raises:
            InterventionError: there are none, or one is no finite floating-point [features] or [tokens, features].
        """
        digest = hashlib.sha256()
        for name in sorted(arrays):
            _check(name, arrays[name], "memory")
            digest.update(f"{name}:{arrays[name].dtype.str}:{arrays[name].shape};".encode())
            digest.update(np.ascontiguousarray(arrays[name]).tobytes())
        return _filled(GivenValues(dict(arrays), "memory", f"sha256:{digest.hexdigest()}"))

    @staticmethod
    def read(path: str | Path) -> GivenValues:
        """From a safetensors file, whose tensor names are those of `arrays`.

        Raises:
            InterventionError: the file is missing or broken, or as `of`.
            UnsafeFileError: a link or not a regular file.
        """
        path = Path(path)
        stored = open_safetensors(path, error=InterventionError)
        arrays = {
            name: widen_bfloat16(stored.array(name)) if stored.dtype(name) == "BF16" else stored.array(name)
            for name in stored.names
        }
        for name, array in arrays.items():
            _check(name, array, path)
        return _filled(GivenValues(arrays, str(path.resolve()), sha256_file(path)))


def _check(name: str, array: npt.NDArray[Any], where: str | Path) -> None:
    def refuse(what: str, cure: str) -> InterventionError:
        return InterventionError(f"the values given for {name!r} {what}", where=where, cure=cure)

    if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
        found = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
        raise refuse(f"are {found}", "Give arrays of floating-point numbers")
    if array.ndim not in _DIMENSIONS or array.size == 0:
        raise refuse(f"have shape {list(array.shape)}", "Give [features] or [tokens, features]")
    if not np.isfinite(array).all():
        raise refuse("hold NaN or Inf", "Give finite values")


def _filled(values: GivenValues) -> GivenValues:
    if not values.arrays:
        raise InterventionError("no donor values are given", where=values.source, cure="Give some, by site")
    return values


def given_donor(incident: Recording, values: GivenValues, taps: Sequence[Tap], base: Run) -> PatchDonor:
    """The donor of `patch` that writes these values. Whether they belong to the same inputs is not known.

    Args:
        taps: the sites that may be patched.
        base: the incident's run, for the shapes.

    Raises:
        InterventionError: a name that is no site of `taps` or no sample; another width or number of tokens; numbers
            that the model's type at the site does not hold.
    """
    named: dict[tuple[str | None, str], npt.NDArray[Any]] = {}
    for name, array in values.arrays.items():
        sample, _, site = name.rpartition("/")
        named[sample or None, site] = array
    sites = {tap.name for tap in taps}
    samples = {sample.sample_id for sample in incident.samples}
    for sample_id, site in named:
        if site not in sites:
            raise InterventionError(
                "values are given for a site that is no candidate",
                where=site,
                cure="Name components of this model at the configured granularity, such as L3.mlp",
            )
        if sample_id is not None and sample_id not in samples:
            raise InterventionError(
                f"values are given for sample {sample_id!r}, which the incident does not hold",
                where=values.source,
                cure="Name its samples by their sample_id",
            )
    rows = {}
    for site in sorted({site for _, site in named}):
        own = [named.get((s.sample_id, site), named.get((None, site))) for s in incident.samples]
        rows[site] = tuple(
            None if array is None else _fitting(array, base.activations[site][i], f"{site}, sample {i}")
            for i, array in enumerate(own)
        )
    description = Donor(kind="given", source=values.source, content_digest=values.digest, same_input=False)
    # What holds for every token of every sample is written into any other input just the same.
    anywhere = {site: _rows(a) for (sample, site), a in named.items() if sample is None and _rows(a).shape[0] == 1}
    return PatchDonor(description, (None,) * len(incident.samples), rows, anywhere)


def _rows(array: npt.NDArray[Any]) -> torch.Tensor:
    """[1 or tokens, features]; a copy."""
    return torch.from_numpy(np.array(array, ndmin=2))


def _fitting(array: npt.NDArray[Any], run: torch.Tensor, where: str) -> torch.Tensor:
    value = _rows(array)
    if value.shape[1] != run.shape[1] or value.shape[0] not in (1, run.shape[0]):
        raise InterventionError(
            f"the values given have shape {list(array.shape)}, and the run has {list(run.shape)}",
            where=where,
            cure="Give [features] for every token, or one row for each token of this sample",
        )
    if not torch.equal(value.to(run.dtype).to(value.dtype), value):
        kind = str(run.dtype).removeprefix("torch.")
        raise InterventionError(
            f"the model computes {kind} here, which does not hold the values given exactly",
            where=where,
            cure=f"Round them to {kind} first: what is given is what is written",
        )
    return value
