"""Recordings: what a bundle, on disk or in memory, holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from model_forensics.failure import Failure
from model_forensics.types.base import Frozen

SiteKind = Literal["embed", "attn", "mlp", "head", "neuron", "resid", "final_norm", "logits", "module"]
BundleKind = Literal["incident", "benign"]


@dataclass(frozen=True)
class Sparse:
    """A sparse activation of one sample: entries that were not recorded are absent, not zero.

    Attributes:
        values: [entries], the recorded values.
        indices: [entries] int64, strictly increasing flat positions into `shape` (C order).
        shape: (rows, features) of the full activation.
    """

    values: npt.NDArray[Any]
    indices: npt.NDArray[np.int64]
    shape: tuple[int, int]


class ModelReference(Frozen):
    """Which model produced a recording. It names a model; it never makes the program import code."""

    source: str | None = None  # directory (relative ones start at the bundle) or hub id
    architecture: str  # class name, for example GPT2LMHeadModel
    family: str  # gpt2, llama, bert, vit, or module for anything else
    layers: int | None = None
    width: int | None = None  # features of the residual stream
    dtype: str | None = None
    weights_digest: str | None = None  # "sha256:…" over all parameters and buffers
    tensor_digests: dict[str, str] | None = None  # per parameter, to name what differs between versions
    tokenizer_digest: str | None = None


class SiteInfo(Frozen):
    """One recorded site of a bundle."""

    name: str
    module: str  # real module path
    kind: SiteKind
    layer: int | None
    features: int
    dtype: Literal["float64", "float32", "float16", "bfloat16"]
    layout: Literal["dense", "sparse"] = "dense"


class Sample(Frozen):
    """One input with its run.

    `call` and `row` say which batch of the recording it was part of, so that a replay can use the same composition.
    """

    sample_id: str
    group: str  # prompt or conversation; samples of a group are not independent
    call: int
    row: int
    tokens: int  # rows of its activations that are real tokens (padding removed)
    text: str | None = None
    right: tuple[int, ...] | None = None  # overrides the failure's right answers for this sample
    wrong: tuple[int, ...] | None = None
    generated_from: int | None = None  # first generated token, when the run was a generation


class Recording(Protocol):
    """What the stages read from a bundle, on disk or in memory.

    It may also offer `recorded_activations(sites, sample)`, a mapping of those of the sites that the sample recorded to
    what `activation` gives: many small sites are read faster so.
    """

    @property
    def bundle_id(self) -> str: ...
    @property
    def kind(self) -> BundleKind: ...
    @property
    def created_at(self) -> datetime: ...
    @property
    def path(self) -> Path | None: ...
    @property
    def content_digest(self) -> str | None:
        """`sha256:…` that pins all of a stored bundle's content; None for a recording in memory."""
        ...

    @property
    def model(self) -> ModelReference | None: ...
    @property
    def failure(self) -> Failure | None: ...
    @property
    def samples(self) -> Sequence[Sample]: ...
    @property
    def sites(self) -> Mapping[str, SiteInfo]:
        """In execution order."""
        ...

    def activation(self, site: str, sample: int) -> npt.NDArray[Any] | Sparse:
        """[rows, features] of one sample; bfloat16 comes widened to float32 (exact), others as stored.

        Raises:
            UnknownSite: the site was not recorded.
        """
        ...

    def has_activation(self, site: str, sample: int) -> bool:
        """Whether this sample recorded this site (a bundle may lack some sites for some samples)."""
        ...

    def inputs(self, call: int) -> Mapping[str, npt.NDArray[Any]]:
        """The model's keyword inputs of one batch, exactly as passed: [rows, …]."""
        ...

    def outputs(self, sample: int) -> Mapping[str, npt.NDArray[Any]]:
        """Recorded outputs of one sample; `logits` is [positions, classes], the scored positions only."""
        ...
