"""Taking values out of a running model: copies on the CPU, padding removed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from model_forensics.errors import ModelError
from model_forensics.models import Tap, hooks, rows

ACTIVATION_DTYPES = {
    torch.float64: "float64",
    torch.float32: "float32",
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
}
_TOKENS = 3  # dimensions of [batch, tokens, features]


@dataclass
class Capture:
    """The values of one forward pass.

    Attributes:
        packed: per site [real tokens of all samples, features], on the CPU.
        whole: per site the value as the model computed it, on the CPU; for shapes without a token dimension.
    """

    packed: dict[Tap, Tensor] = field(default_factory=dict)
    whole: dict[Tap, Tensor] = field(default_factory=dict)

    def __contains__(self, tap: object) -> bool:
        return tap in self.packed or tap in self.whole

    def sample_rows(self, tap: Tap, mask: Tensor | None, row: int) -> Tensor:
        """[rows, features] of one sample; the same as `rows.to_rows` of the model's value."""
        if tap in self.whole:
            return rows.to_rows(self.whole[tap], mask, row)
        assert mask is not None  # only masked values are packed
        start = int(mask[:row].sum())
        return self.packed[tap][start : start + int(mask[row].sum())]


@contextmanager
def capturing(
    module: nn.Module, taps: Sequence[Tap], mask: Tensor | None, *, batch: int
) -> Iterator[Callable[[], Capture]]:
    """Copies the sites' values to the CPU while the model runs once.

    The values are copied inside the hooks, because later operations may change them in place. On a GPU the copies go to
    pinned memory without making the GPU wait; the yielded function waits for them. Nothing stays on the GPU.

    Args:
        mask: [batch, tokens] bool on the CPU, or None; padding is dropped before the copy.
        batch: samples in the batch, for checking that the first dimension is the batch.

    Yields:
        A function that returns the finished capture.

    Raises:
        ModelError: a site's module runs several times in one forward, or its value is no floating-point batch.
    """
    capture = Capture()
    packer = _Packer(mask)

    def on_value(tap: Tap, value: Tensor) -> None:
        if tap in capture:
            raise ModelError(
                "the site is computed several times in one forward, so it has no single value",
                where=tap.name,
                cure="Leave it out, and record the modules that call it",
            )
        _check(tap, value, batch)
        if value.is_cuda:
            packer.devices.add(value.device)
        if packer.fits(value):
            capture.packed[tap] = packer.take(value)
        else:
            capture.whole[tap] = copy_to_cpu(value)

    def finish() -> Capture:
        for device in packer.devices:
            torch.cuda.synchronize(device)
        return capture

    with hooks.read(module, taps, on_value):
        yield finish


def copy_to_cpu(value: Tensor) -> Tensor:
    """A detached copy on the CPU; from a GPU asynchronous, so that the caller must synchronise before reading it."""
    source = value.detach()
    if not source.is_cuda:
        return source.to("cpu", copy=True)
    target = torch.empty(source.shape, dtype=source.dtype, device="cpu", pin_memory=True)
    return target.copy_(source, non_blocking=True)


def as_array(values: Tensor) -> tuple[npt.NDArray[np.generic], str]:
    """A CPU tensor as an array and its dtype's name; bfloat16 becomes its bit patterns in uint16."""
    values = values.contiguous()
    if values.dtype == torch.bfloat16:
        return values.view(torch.uint16).numpy(), "bfloat16"
    array: npt.NDArray[np.generic] = values.numpy()
    return array, str(array.dtype)


def check_complete(captures: Mapping[Tap, object] | Capture, taps: Sequence[Tap], required: frozenset[str]) -> None:
    """Refuses a run that did not compute a site which was asked for by name.

    Raises:
        ModelError: a required site is missing.
    """
    for tap in taps:
        if tap.name in required and tap not in captures:
            raise ModelError(
                "the model ran without computing this site", where=tap.name, cure="Leave it out of the recorded sites"
            )


class _Packer:
    """Drops padding: one gather a site, with indices that are made once a batch and device."""

    def __init__(self, mask: Tensor | None) -> None:
        self.devices: set[torch.device] = set()
        self._mask = mask
        self._indices = None if mask is None or bool(mask.all()) else mask.flatten().nonzero().flatten()
        self._placed: dict[torch.device, Tensor] = {}

    def fits(self, value: Tensor) -> bool:
        return self._mask is not None and value.ndim == _TOKENS and value.shape[:2] == self._mask.shape

    def take(self, value: Tensor) -> Tensor:
        flat = value.detach().flatten(0, 1)
        if self._indices is None:
            return copy_to_cpu(flat)
        if value.device not in self._placed:
            self._placed[value.device] = self._indices.to(value.device)
        gathered = flat.index_select(0, self._placed[value.device])
        return copy_to_cpu(gathered) if gathered.is_cuda else gathered


def _check(tap: Tap, value: Tensor, batch: int) -> None:
    if value.dtype not in ACTIVATION_DTYPES:
        raise ModelError(
            f"the site's values are {value.dtype}, not floating point",
            where=tap.name,
            cure="Leave it out of the recorded sites",
        )
    if value.shape[0] not in (1, batch):
        raise ModelError(
            f"the site's value has shape {list(value.shape)}, which does not start with the batch of {batch}",
            where=tap.name,
            cure="Leave it out of the recorded sites",
        )
