"""Recorded batches as torch inputs: whole calls, single rows of them, and what makes two inputs the same."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from model_forensics.errors import OutputError
from model_forensics.models import rows as model_rows
from model_forensics.types import Recording

# Inputs whose first dimension is not the batch even when the sizes happen to agree.
_SHARED_INPUTS = frozenset({"cache_position", "logits_to_keep", "num_logits_to_keep"})
# They say where the tokens are, not what they are; two paddings of one prompt are the same input.
_LAYOUT_INPUTS = frozenset({"attention_mask", "position_ids", "cache_position"})


@dataclass(frozen=True)
class Call:
    """One recorded batch.

    Attributes:
        inputs: keyword inputs of the model on its device, [rows, …] except for those shared by all rows.
        mask: [rows, T] bool, true at real tokens; None where the inputs have no tokens.
        size: rows of the batch.
    """

    inputs: Mapping[str, torch.Tensor]
    mask: torch.Tensor | None
    size: int

    def is_per_row(self, name: str) -> bool:
        value = self.inputs[name]
        return name not in _SHARED_INPUTS and value.dim() > 0 and value.shape[0] == self.size

    def take(self, rows: Sequence[int]) -> Call:
        """The batch made of these rows (repeats allowed); padding stays as recorded."""
        if list(rows) == list(range(self.size)):
            return self
        index = torch.as_tensor(list(rows), dtype=torch.long)
        inputs = {
            name: value.index_select(0, index.to(value.device)) if self.is_per_row(name) else value
            for name, value in self.inputs.items()
        }
        mask = None if self.mask is None else self.mask.index_select(0, index.to(self.mask.device))
        return Call(inputs, mask, len(rows))


class Calls:
    """The calls of one recording on one device, converted once."""

    def __init__(self, recording: Recording, device: torch.device | str) -> None:
        self.recording = recording
        self._device = device
        self._calls: dict[int, Call] = {}

    def __getitem__(self, call: int) -> Call:
        if call not in self._calls:
            self._calls[call] = self._convert(self.recording.inputs(call))
        return self._calls[call]

    def tokens(self, call: int) -> int:
        """Tokens of a row, padding included; 1 where the inputs have no tokens."""
        inputs = self[call].inputs
        for name in ("input_ids", "inputs_embeds", "attention_mask"):
            if name in inputs:
                return int(inputs[name].shape[1])
        return 1

    def _convert(self, arrays: Mapping[str, npt.NDArray[Any]]) -> Call:
        # np.array copies: recordings are read-only memory maps, and torch tensors must not alias them.
        inputs = {name: torch.from_numpy(np.array(array)).to(self._device) for name, array in arrays.items()}
        mask = model_rows.real_token_mask(inputs)
        if mask is not None:
            return Call(inputs, mask, int(mask.shape[0]))
        batched = [v.shape[0] for n, v in inputs.items() if v.dim() > 0 and n not in _SHARED_INPUTS]
        return Call(inputs, None, int(max(batched, default=1)))


def fingerprint(recording: Recording, sample: int) -> str:
    """Digest of one sample's input: equal exactly when token ids (padding removed) or pixels are equal."""
    info = recording.samples[sample]
    arrays = recording.inputs(info.call)
    real = _real_tokens(arrays, info.row)
    digest = hashlib.sha256()
    for name in sorted(set(arrays) - _LAYOUT_INPUTS):
        array = np.asarray(arrays[name])
        if array.ndim == 0 or name in _SHARED_INPUTS or info.row >= array.shape[0]:
            continue
        value = array[info.row]
        if real is not None and value.ndim >= 1 and value.shape[0] == real.size:
            value = value[real]
        if name == "token_type_ids" and not value.any():
            continue  # all zero is what models assume when it is absent
        if value.dtype.kind in "iub":
            value = value.astype(np.int64)
        digest.update(f"{name}:{value.dtype}:{value.shape};".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()


def _real_tokens(arrays: Mapping[str, npt.NDArray[Any]], row: int) -> npt.NDArray[np.bool_] | None:
    if "attention_mask" in arrays and np.asarray(arrays["attention_mask"]).ndim == 2:
        return np.asarray(np.asarray(arrays["attention_mask"])[row] != 0)
    return None


def recorded_logits(recording: Recording, sample: int, name: str = "logits") -> npt.NDArray[np.float64] | None:
    """[classes] at the scored position as recorded, None where the bundle holds no such output.

    Raises:
        OutputError: the shape is neither [classes] nor [positions, classes] with one or all positions.
    """
    outputs = recording.outputs(sample)
    if name not in outputs:
        return None
    logits = np.asarray(outputs[name], dtype=np.float64)
    info = recording.samples[sample]
    if logits.ndim == 1:
        return logits
    if logits.ndim == 2 and logits.shape[0] == 1:
        return np.asarray(logits[0])
    position = -1 if recording.failure is None else recording.failure.position
    if logits.ndim == 2 and logits.shape[0] == info.tokens and -info.tokens <= position < info.tokens:
        return np.asarray(logits[position])
    raise OutputError(
        f"recorded {name} of sample {info.sample_id} have shape {logits.shape}, so the scored position is unclear",
        where=recording.bundle_id,
        cure="Record [1, classes], the scored position only",
    )
