"""Every numeric operation on one small case, in the form that each backend takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from model_forensics import ops

Upload = Callable[[npt.NDArray[Any]], Any]
Case = Callable[[str, Upload], Sequence[Any]]
"""From a backend's name, and what brings an array to where it works, to the operation's results."""

ROWS, CHANNELS, LEVELS = 67, 33, 16
REFERENCE = "numpy"


def agrees(operation: str, backend: str) -> bool:
    """Whether a backend gives the reference's results, bit for bit; every operation promises that."""
    case = CASES[operation]
    expected = [_on_host(value) for value in case(REFERENCE, _stay)]
    found = [_on_host(value) for value in case(backend, _stay if backend in ("cpp", "numba") else _to_gpu)]
    return all(np.array_equal(a, b, equal_nan=True) for a, b in zip(expected, found, strict=True))


def _random() -> np.random.Generator:
    return np.random.default_rng(0)


def _values() -> npt.NDArray[np.float32]:
    return _random().standard_normal((ROWS, CHANNELS)).astype(np.float32)


def _symbols() -> npt.NDArray[np.uint8]:
    return _random().integers(LEVELS, size=(ROWS, CHANNELS)).astype(np.uint8)


def _grid() -> ops.Grid:
    low = _random().uniform(-8, -5, CHANNELS).astype(np.float32)
    return ops.Grid("log", LEVELS, low, np.full(CHANNELS, 0.5, np.float32))


def _starts() -> npt.NDArray[np.int64]:
    return np.array([0, 100, 100, ROWS * CHANNELS], dtype=np.int64)


def _channels() -> npt.NDArray[np.int64]:
    return np.tile(np.arange(CHANNELS, dtype=np.int64), ROWS)


def _quantize(backend: str, up: Upload) -> Sequence[Any]:
    return [ops.quantize(up(_values()), _grid(), backend=backend)]


def _histogram(backend: str, up: Upload) -> Sequence[Any]:
    return [ops.histogram(up(_symbols()), alphabet=LEVELS, backend=backend)]


def _entropy_windows(backend: str, up: Upload) -> Sequence[Any]:
    return [ops.entropy_windows(up(_symbols().reshape(-1)), window=64, stride=16, alphabet=LEVELS, backend=backend)]


def _codelength(backend: str, up: Upload) -> Sequence[Any]:
    cost = _random().uniform(0, 8, (CHANNELS, LEVELS)).astype(np.float32)
    return [ops.codelength(up(_symbols()), cost, backend=backend)]


def _codelength_adaptive(backend: str, up: Upload) -> Sequence[Any]:
    return [ops.codelength_adaptive(up(_symbols()), alphabet=LEVELS, backend=backend)]


def _arithmetic_encode(backend: str, up: Upload) -> Sequence[Any]:
    return [_bytes(ops.arithmetic_encode(up(_symbols()), backend=backend))]


def _arithmetic_decode(backend: str, up: Upload) -> Sequence[Any]:
    stream = np.frombuffer(_bytes(ops.arithmetic_encode(_symbols(), backend=REFERENCE)), np.uint8)
    return [_bytes(ops.arithmetic_decode(up(stream), backend=backend))]


def _patch_rows(backend: str, up: Upload) -> Sequence[Any]:
    edits = [ops.PatchEdit(0, None, slice(3, 9)), ops.PatchEdit(1, slice(2, 5), None, _values()[0])]
    hidden = up(_random().standard_normal((2, 8, CHANNELS)).astype(np.float32))
    ops.patch_rows(hidden, ops.patch_plan(edits, tokens=8, features=CHANNELS), backend=backend)
    return [hidden]


def _value_shapes(backend: str, up: Upload) -> Sequence[Any]:
    x = up(_values().reshape(-1))
    return list(ops.value_shapes(x, _starts(), most=500, levels=(0.1, 0.5), backend=backend))


def _bin_sums(backend: str, up: Upload) -> Sequence[Any]:
    x = up(_values().reshape(-1).astype(np.float64))
    return list(ops.bin_sums(x, _channels(), _starts(), count=CHANNELS, backend=backend))


def _predictive_bits(backend: str, up: Upload) -> Sequence[Any]:
    one = np.ones(CHANNELS, np.float32)
    model = ops.Predictive(
        location=0 * one, scale=one, degrees=np.zeros(CHANNELS, np.uint8), positive=np.full(CHANNELS, 0.5, np.float32), presence_gain=0 * one,
        bits=_random().uniform(1, 8, (1, LEVELS)), expected=np.array([4.0]), step=0.5, resolution=0.01,
        least_scale=0.01, largest_square=100.0,
    )  # fmt: skip
    return list(ops.predictive_bits(up(_values().reshape(-1)), _channels(), _starts(), model, backend=backend))


def _add_moments(backend: str, up: Upload) -> Sequence[Any]:
    sums = [np.zeros(CHANNELS) for _ in range(4)]
    ops.add_moments(up(_values().reshape(-1)), _channels(), *sums, backend=backend)
    return sums


CASES: dict[str, Case] = {
    "quantize": _quantize,
    "histogram": _histogram,
    "entropy_windows": _entropy_windows,
    "codelength": _codelength,
    "codelength_adaptive": _codelength_adaptive,
    "arithmetic_encode": _arithmetic_encode,
    "arithmetic_decode": _arithmetic_decode,
    "patch_rows": _patch_rows,
    "value_shapes": _value_shapes,
    "bin_sums": _bin_sums,
    "predictive_bits": _predictive_bits,
    "add_moments": _add_moments,
}


def _stay(array: npt.NDArray[Any]) -> Any:
    return np.array(array)


def _to_gpu(array: npt.NDArray[Any]) -> Any:
    import torch  # noqa: PLC0415  (only GPU backends need it)

    return torch.from_numpy(np.array(array)).to("cuda")


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else _on_host(value).tobytes()


def _on_host(value: Any) -> npt.NDArray[Any]:
    if isinstance(value, bytes):
        return np.frombuffer(value, np.uint8)
    return np.asarray(value.cpu().numpy() if hasattr(value, "cpu") else value)
