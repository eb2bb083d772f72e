"""The CUDA backend against the reference, bit for bit: on a GPU where there is one, and always over the emulation.

No Hypothesis here: a machine that is lent for its GPU may not have it. Cases are seeded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from model_forensics import ops
from model_forensics.errors import BackendUnavailable, ModelForensicsError, UsageError

Upload = Callable[[np.ndarray], Any]

# Sites of very different shapes, empty ones too; channels that vector loads can and cannot take.
SITES = [(70, 257), (0, 3), (2, 0), (1, 31), (65, 128), (130, 4), (1, 1), (9, 132)]
TOTAL = sum(tokens * channels for tokens, channels in SITES)
CHANNELS = sum(channels for _, channels in SITES)


def same(found: Any, expected: Any) -> None:
    """The same numbers, types and shapes; where the data was."""
    if isinstance(expected, tuple):
        assert len(found) == len(expected)
        for one, reference in zip(found, expected, strict=True):
            same(one, reference)
        return
    result = found.cpu().numpy()
    assert result.dtype == expected.dtype
    np.testing.assert_array_equal(result, expected)


def values(random: np.random.Generator, count: int) -> np.ndarray:
    """[count] float32: ordinary ones, borders of the grids below, zeros, denormals, NaN and Inf."""
    made = (random.standard_normal(count) * np.exp2(random.integers(-6, 6, count))).astype(np.float32)
    special = np.array([0, -0.0, np.nan, np.inf, -np.inf, 1e-45, -1e-40, 3e38, 0.25, 0.5, 1, 2, 4], np.float32)
    where = random.random(count) < 0.2
    made[where] = random.choice(special, int(where.sum()))
    return made


def grid(scale: str, levels: int = 31) -> ops.Grid:
    if scale in ("sign", "exponent"):
        return ops.Grid(scale)  # type: ignore[arg-type]
    random = np.random.default_rng(3)
    low = random.choice(np.array([-8, -4, 0, -1e30], np.float32), CHANNELS)
    step = random.choice(np.array([0.5, 0.3, 1e-6, 1e30], np.float32), CHANNELS)
    return ops.Grid(scale, levels=levels, low=low, step=step)  # type: ignore[arg-type]


SCALES = ("uniform", "log", "sign", "exponent")


@pytest.mark.parametrize("scale", SCALES)
def test_quantize(upload: Upload, scale: str) -> None:
    x = values(np.random.default_rng(1), TOTAL)
    same(
        ops.quantize(upload(x), grid(scale), shapes=SITES, backend="cuda"),
        ops.quantize(x, grid(scale), shapes=SITES, backend="numpy"),
    )


@pytest.mark.parametrize("levels", [31, 255])
@pytest.mark.parametrize("scale", SCALES)
def test_histogram_of_values(upload: Upload, scale: str, levels: int) -> None:
    x = values(np.random.default_rng(2), TOTAL)
    same(
        ops.histogram(upload(x), grid=grid(scale, levels), shapes=SITES, backend="cuda"),
        ops.histogram(x, grid=grid(scale, levels), shapes=SITES, backend="numpy"),
    )


@pytest.mark.parametrize("alphabet", [2, 16, 65, 256])
def test_histogram_of_symbols(upload: Upload, alphabet: int) -> None:
    x = np.random.default_rng(alphabet).integers(0, alphabet, TOTAL, dtype=np.uint8)
    same(
        ops.histogram(upload(x), alphabet=alphabet, shapes=SITES, backend="cuda"),
        ops.histogram(x, alphabet=alphabet, shapes=SITES, backend="numpy"),
    )


@pytest.mark.parametrize("block", [(64, 64), (7, 300), (1000, 5)])
@pytest.mark.parametrize("scale", SCALES)
def test_codelength(upload: Upload, scale: str, block: tuple[int, int]) -> None:
    random = np.random.default_rng(block[0])
    x = values(random, TOTAL)
    cost = random.normal(4, 3, (CHANNELS, grid(scale).alphabet)).astype(np.float32)
    reduce = ("block", "channel", "token", "site")

    def run(data: Any, backend: str) -> Any:
        return ops.codelength(data, cost, grid=grid(scale), shapes=SITES, reduce=reduce, block=block, backend=backend)

    same(run(upload(x), "cuda"), run(x, "numpy"))


@pytest.mark.parametrize("reduce", ["channel", "token", "site"])
@pytest.mark.parametrize("largest", [10.0, 32767.0])
def test_codelength_of_symbols_with_shared_tables(upload: Upload, reduce: str, largest: float) -> None:
    random = np.random.default_rng(5)
    x = random.integers(0, 20, (300, 150), dtype=np.uint8)
    cost = random.uniform(-largest, largest, (3, 20)).astype(np.float32)
    tables = random.integers(0, 3, 150).astype(np.int32)

    def run(data: Any, backend: str) -> Any:
        return ops.codelength(data, cost, tables=tables, reduce=reduce, backend=backend)  # type: ignore[arg-type]

    same(run(upload(x), "cuda"), run(x, "numpy"))


@pytest.mark.parametrize("reduce", ["channel", "site", "block"])
def test_codelength_adaptive(upload: Upload, reduce: str) -> None:
    x = values(np.random.default_rng(6), TOTAL)
    block = (32, 50) if reduce == "block" else None

    def run(data: Any, backend: str) -> Any:
        return ops.codelength_adaptive(
            data,
            grid=grid("log"),
            shapes=SITES,
            reduce=reduce,  # type: ignore[arg-type]
            block=block,
            backend=backend,
        )

    same(run(upload(x), "cuda"), run(x, "numpy"))


@pytest.mark.parametrize(("window", "stride"), [(256, 64), (16, 16), (13, 5), (1, 7), (4096, 1024)])
@pytest.mark.parametrize("alphabet", [16, 256])
def test_entropy_windows(upload: Upload, window: int, stride: int, alphabet: int) -> None:
    x = np.random.default_rng(window).integers(0, alphabet, 20011, dtype=np.uint8)
    offsets = np.array([0, 0, 5, 2560, 2560, 20011])

    def run(data: Any, backend: str) -> Any:
        return ops.entropy_windows(
            data, window=window, stride=stride, alphabet=alphabet, offsets=offsets, backend=backend
        )

    same(run(upload(x), "cuda"), run(x, "numpy"))
    assert ops.chosen()["entropy_windows"] == "numpy"


def test_one_site_needs_no_shapes(upload: Upload) -> None:
    x = np.random.default_rng(8).integers(0, 5, (33, 21), dtype=np.uint8)
    same(ops.histogram(upload(x), alphabet=5, backend="cuda"), ops.histogram(x, alphabet=5, backend="numpy"))
    transposed = upload(x).T  # not contiguous
    same(ops.histogram(transposed, alphabet=5, backend="cuda"), ops.histogram(x.T, alphabet=5, backend="numpy"))


def test_a_symbol_outside_the_alphabet_is_an_error(upload: Upload) -> None:
    x = np.full((40, 3), 4, np.uint8)
    for run in (
        lambda data: ops.histogram(data, alphabet=4, backend="cuda"),
        lambda data: ops.codelength(data, np.ones((3, 4), np.float32), backend="cuda"),
        lambda data: ops.entropy_windows(data.flatten(), window=4, alphabet=4, backend="cuda"),
    ):
        with pytest.raises(UsageError, match="outside the alphabet of 4"):
            run(upload(x))


def test_the_wrong_dtype_is_an_error(upload: Upload) -> None:
    with pytest.raises(UsageError, match="int64"):
        ops.histogram(upload(np.zeros((2, 2), np.int64)), alphabet=4, backend="cuda")
    with pytest.raises(UsageError, match="uint8"):
        ops.quantize(upload(np.zeros((2, 2), np.uint8)), ops.Grid("sign"), backend="cuda")


def test_what_is_no_tensor_is_refused(upload: Upload) -> None:
    # Only the emulation, which takes host memory, gets so far as to look at the type.
    with pytest.raises(ModelForensicsError, match=r"not a torch tensor|in host memory"):
        ops.entropy_windows([1, 2], backend="cuda")  # type: ignore[arg-type]


@pytest.mark.gpu
def test_a_gpu_tensor_goes_to_cuda_by_itself() -> None:
    import torch

    x = torch.zeros(1000, dtype=torch.uint8, device="cuda")
    assert ops.entropy_windows(x).device == x.device
    assert ops.chosen()["entropy_windows"] == "cuda"
    with pytest.raises(BackendUnavailable, match="on a GPU"):
        ops.entropy_windows(x, backend="numpy")


@pytest.mark.gpu
def test_work_is_queued_on_the_current_stream() -> None:
    import torch

    x = torch.randint(0, 256, (1 << 24,), dtype=torch.uint8, device="cuda")
    expected = ops.entropy_windows(x.cpu().numpy())
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        later = x.flip(0).flip(0)  # made on this stream: only right if the kernel waits for it
        found = ops.entropy_windows(later)
    stream.synchronize()
    np.testing.assert_array_equal(found.cpu().numpy(), expected)
