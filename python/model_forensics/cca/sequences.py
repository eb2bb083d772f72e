"""A recording seen as other token sequences of the same samples: cut at the prompt, or followed by other tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from model_forensics.errors import OutputError, UnknownSite
from model_forensics.failure import Failure
from model_forensics.types import BundleKind, ModelReference, Recording, Sample, SiteInfo, Sparse

Tokens = tuple[int, ...]
_INPUTS = frozenset({"input_ids", "attention_mask", "position_ids"})


def own_tokens(recording: Recording, sample: int) -> Tokens:
    """All tokens of one sample's input, padding removed.

    Raises:
        OutputError: the inputs are not token ids, a mask and positions.
    """
    info = recording.samples[sample]
    arrays = recording.inputs(info.call)
    if "input_ids" not in arrays or not set(arrays) <= _INPUTS:
        raise OutputError(
            f"sample {info.sample_id} has the inputs {', '.join(arrays)}, which cannot be continued with text",
            where=recording.bundle_id,
            cure="Record input_ids, and attention_mask where prompts are padded",
        )
    ids = np.asarray(arrays["input_ids"])[info.row]
    if "attention_mask" in arrays:
        ids = ids[np.asarray(arrays["attention_mask"])[info.row] != 0]
    return tuple(int(token) for token in ids)


def prompt_of(recording: Recording, sample: int) -> Tokens:
    """The tokens of one sample before the first generated one; all where nothing was generated."""
    return own_tokens(recording, sample)[: recording.samples[sample].generated_from]


class Sequences:
    """A `Recording` whose sample i is the run of `tokens[i]`, each in a call of its own, without padding.

    What was recorded is served as far as it belongs to these tokens: activations where they begin the recorded
    sequence, outputs where they are all of it.
    """

    def __init__(self, recording: Recording, tokens: Sequence[Tokens]) -> None:
        self._recording = recording
        self._tokens = tuple(tokens)
        self._masked = ["attention_mask" in recording.inputs(sample.call) for sample in recording.samples]
        self._recorded = [own_tokens(recording, index) for index in range(len(recording.samples))]
        self.samples: Sequence[Sample] = tuple(
            sample.model_copy(update={"call": index, "row": 0, "tokens": len(self._tokens[index])})
            for index, sample in enumerate(recording.samples)
        )

    @property
    def bundle_id(self) -> str:
        return self._recording.bundle_id

    @property
    def kind(self) -> BundleKind:
        return self._recording.kind

    @property
    def created_at(self) -> datetime:
        return self._recording.created_at

    @property
    def path(self) -> Path | None:
        return self._recording.path

    @property
    def content_digest(self) -> str | None:
        return self._recording.content_digest

    @property
    def model(self) -> ModelReference | None:
        return self._recording.model

    @property
    def failure(self) -> Failure | None:
        return self._recording.failure

    @property
    def sites(self) -> Mapping[str, SiteInfo]:
        return self._recording.sites

    def has_activation(self, site: str, sample: int) -> bool:
        own = self._tokens[sample]
        return self._recorded[sample][: len(own)] == own and self._recording.has_activation(site, sample)

    def activation(self, site: str, sample: int) -> npt.NDArray[Any] | Sparse:
        """[tokens, features] of the sequence.

        Raises:
            UnknownSite: it was not recorded for these tokens.
        """
        if not self.has_activation(site, sample):
            raise UnknownSite("not recorded for this continuation", where=site, cure="Run the model on it")
        value = self._recording.activation(site, sample)
        whole = isinstance(value, Sparse) or len(value) != len(self._recorded[sample])
        return value if whole else value[: len(self._tokens[sample])]  # type: ignore[index]

    def recorded_activations(self, sites: Sequence[str], sample: int) -> Mapping[str, npt.NDArray[Any] | Sparse]:
        return {site: self.activation(site, sample) for site in sites if self.has_activation(site, sample)}

    def inputs(self, call: int) -> Mapping[str, npt.NDArray[Any]]:
        ids = np.array([self._tokens[call]], dtype=np.int64)
        return {"input_ids": ids, "attention_mask": np.ones_like(ids)} if self._masked[call] else {"input_ids": ids}

    def outputs(self, sample: int) -> Mapping[str, npt.NDArray[Any]]:
        return self._recording.outputs(sample) if self._recorded[sample] == self._tokens[sample] else {}
