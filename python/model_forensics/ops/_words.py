"""Floating-point arrays of NumPy and torch as words, so that every bit survives being moved. torch stays unloaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NoReturn

import numpy as np

from model_forensics.errors import UsageError
from model_forensics.ops import _patch_table as table

ITEM_BYTES: Final = {"float32": 4, "float16": 2, "bfloat16": 2}
_NUMPY_NAMES: Final = {np.dtype("<f4"): "float32", np.dtype("<f2"): "float16", np.dtype("<u2"): "bfloat16"}
_CURE: Final = (
    "Pass a NumPy array of float32, float16 or uint16 (bit patterns of bfloat16), "
    "or a dense torch tensor of float32, float16 or bfloat16"
)


def is_tensor(value: Any) -> bool:
    """Whether it is a torch tensor, without importing torch for anything else."""
    if not any(base.__module__.partition(".")[0] == "torch" for base in type(value).__mro__):
        return False
    import torch  # noqa: PLC0415 - only where the caller has it already

    return isinstance(value, torch.Tensor)


@dataclass(frozen=True)
class Words:
    """An array seen as unsigned words (NumPy, also of CPU tensors) or signed ones (torch, on a GPU). It shares memory.

    Attributes:
        dtype: "float32", "float16" or "bfloat16".
        data: the words, with the array's shape and strides.
        device: "cpu", or the torch device's name.
    """

    dtype: str
    data: Any
    device: str

    @classmethod
    def of(cls, value: Any, where: str) -> Words:
        """The words of `value`. Raises UsageError for another kind of array or dtype."""
        if isinstance(value, np.ndarray):
            name = _NUMPY_NAMES.get(value.dtype)
            if name is None:
                _refuse(f"is {value.dtype.str} ({value.dtype.name})", where)
            if not value.flags.aligned:
                _refuse("is not aligned to its items", where)
            return cls(name, value.view(f"<u{ITEM_BYTES[name]}"), "cpu")
        if not is_tensor(value):
            _refuse(f"is a {type(value).__name__}", where)
        return cls._of_tensor(value, where)

    @classmethod
    def _of_tensor(cls, value: Any, where: str) -> Words:
        import torch  # noqa: PLC0415

        name = str(value.dtype).removeprefix("torch.")
        if name not in ITEM_BYTES:
            _refuse(f"is a tensor of {name}", where)
        if value.layout != torch.strided or value.device.type not in ("cpu", "cuda"):
            _refuse(f"is a {value.layout} tensor on '{value.device}'", where)
        words = value.detach().view(torch.int32 if ITEM_BYTES[name] == 4 else torch.int16)
        if value.device.type == "cuda":
            return cls(name, words, str(value.device))
        return cls(name, words.numpy().view(f"<u{ITEM_BYTES[name]}"), "cpu")

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.data.shape)

    @property
    def address(self) -> tuple[Any, ...]:
        """Equal for two views of the same elements, as long as both live."""
        if isinstance(self.data, np.ndarray):
            return self.data.__array_interface__["data"][0], self.data.shape, self.data.strides
        return self.data.data_ptr(), tuple(self.data.shape), self.data.stride()


class Pool:
    """Arrays of values of one dtype and device, joined into a flat one; the same array twice is held once."""

    def __init__(self) -> None:
        self.dtype: str | None = None
        self._parts: list[Words] = []  # keeps them alive, so that an address stays what it was
        self._places: dict[tuple[Any, ...], int] = {}
        self._size = 0

    def place(self, value: Words, where: str) -> int:
        """Where the flat array will hold the value. Raises UsageError for another dtype or device than the first's."""
        first = self._parts[0] if self._parts else value
        if (value.dtype, value.device) != (first.dtype, first.device):
            raise UsageError(
                f"its value is {value.dtype} on '{value.device}', the first is {first.dtype} on '{first.device}'",
                where=where,
                cure="Convert all values to the dtype of the hidden states, on one device, before the plan is made",
            )
        known = self._places.get(value.address)
        if known is not None:
            return known
        self.dtype = value.dtype
        place = self._places[value.address] = self._size
        self._parts.append(value)
        size = int(np.prod(value.shape, dtype=np.int64))
        self._size += -(-size // table.ALIGNMENT) * table.ALIGNMENT
        return place

    def joined(self) -> Any:
        """[words]: the parts one after the other, each padded to the alignment; read-only in NumPy."""
        if self._parts and self._parts[0].device != "cpu":
            return self._joined_on_gpu()
        item = ITEM_BYTES[self.dtype or "float32"]
        flat = np.zeros(self._size, dtype=f"<u{item}")
        for part in self._parts:
            start = self._places[part.address]
            flat[start : start + part.data.size].reshape(part.shape)[...] = part.data
        flat.setflags(write=False)
        return flat

    def _joined_on_gpu(self) -> Any:
        import torch  # noqa: PLC0415

        data = self._parts[0].data
        flat = torch.zeros(self._size, dtype=data.dtype, device=data.device)
        for part in self._parts:
            start = self._places[part.address]
            flat[start : start + part.data.numel()].view(part.shape).copy_(part.data)
        torch.cuda.current_stream(data.device).synchronize()  # once a plan: it may be used on other streams
        return flat


def _refuse(what: str, where: str) -> NoReturn:
    raise UsageError(what, where=where, cure=_CURE)
