"""The arithmetic coder of the CUDA backend against the CPU's, byte for byte: on a GPU, and over the emulation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from model_forensics import ops
from model_forensics.errors import StreamError, UsageError
from model_forensics.ops._numpy import arithmetic as reference
from model_forensics.ops._stream import frame
from model_forensics.ops._stream.section import Model, encode_section

Upload = Callable[[np.ndarray], Any]

MODELS = ("static", "adaptive")


def encoded(data: Any, **options: Any) -> bytes:
    stream = ops.arithmetic_encode(data, backend="cuda", **options)
    assert ops.chosen()["arithmetic_encode"] == "cuda"
    assert stream.device == data.device  # type: ignore[attr-defined]
    return stream.cpu().numpy().tobytes()  # type: ignore[attr-defined,no-any-return]


def made(kind: str, size: int) -> np.ndarray:
    """[size] uint8: what takes each way through the coder."""
    random = np.random.default_rng(size)
    if kind == "noise":
        return random.integers(0, 256, size, dtype=np.uint8)
    if kind == "constant":
        return np.full(size, 66, np.uint8)
    return np.minimum(random.exponential(9, size), 255).astype(np.uint8)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("kind", ["noise", "skewed", "constant"])
@pytest.mark.parametrize("element", ["bytes", "float32", "float16", "bfloat16"])
def test_the_stream_is_the_cpus(upload: Upload, element: Any, kind: str, model: Any) -> None:
    for size in (0, 1, 3, 5, 1000, 65537):
        data = made(kind, size)
        expected = ops.arithmetic_encode(data, dtype=element, model=model, backend="numpy")
        x = upload(data)
        stream = ops.arithmetic_encode(x, dtype=element, model=model, backend="cuda")
        assert stream.cpu().numpy().tobytes() == expected  # type: ignore[attr-defined]
        decoded = ops.arithmetic_decode(stream, backend="cuda")
        np.testing.assert_array_equal(decoded.cpu().numpy(), data)  # type: ignore[attr-defined]


@pytest.mark.parametrize("model", MODELS)
def test_several_chunks(upload: Upload, model: Any) -> None:
    data = made("skewed", (1 << 23) + 10001)
    x = upload(data)
    stream = ops.arithmetic_encode(x, model=model, backend="cuda")
    assert stream.cpu().numpy().tobytes() == ops.arithmetic_encode(data, model=model)  # type: ignore[attr-defined]
    decoded = ops.arithmetic_decode(stream, backend="cuda")
    assert decoded.device == x.device  # type: ignore[comparison-overlap]
    np.testing.assert_array_equal(decoded.cpu().numpy(), data)  # type: ignore[attr-defined]


@pytest.mark.parametrize("model", MODELS)
def test_values_of_tensors(upload: Upload, model: Any) -> None:
    import torch

    values = np.random.default_rng(3).standard_normal((70, 33)).astype(np.float32)
    values.view(np.uint32)[0, :4] = (0, 1 << 31, 0x7FC00001, 0xFFFFFFFF)
    x = upload(values)
    half, brain = x.half(), x.to(torch.bfloat16)
    bits = brain.view(torch.int16).cpu().numpy().view(np.uint16)
    unaligned = x.view(torch.uint8).flatten()[1:]
    for given, on_the_cpu, dtype in (
        (x, values, None),
        (half, half.cpu().numpy(), None),
        (brain, bits, "bfloat16"),
        (x, values, "bytes"),
        (x.T, np.ascontiguousarray(values.T), None),
        (unaligned, unaligned.cpu().numpy(), "float32"),
    ):
        expected = ops.arithmetic_encode(on_the_cpu, dtype=dtype, model=model)  # type: ignore[arg-type]
        assert encoded(given, dtype=dtype, model=model) == expected


@pytest.mark.parametrize("model", range(2))
@pytest.mark.parametrize("element", range(4))
@pytest.mark.parametrize("chunk", [4, 256, 4100])
def test_decoding_chunks_of_any_size(upload: Upload, element: int, chunk: int, model: int) -> None:
    for size in (0, 1, 4, 4101, 12345):
        data = made("skewed", size)
        stream = frame.encode(reference._Coder(), data, element, model, chunk)
        decoded = ops.arithmetic_decode(upload(np.frombuffer(stream, np.uint8)), backend="cuda")
        np.testing.assert_array_equal(decoded.cpu().numpy(), data)  # type: ignore[attr-defined]


def told(stream: np.ndarray, backend: Any) -> str | bytes:
    """The error's text, or what the stream decodes to."""
    try:
        decoded: Any = ops.arithmetic_decode(stream, backend=backend)
    except StreamError as error:
        return str(error)
    return (decoded if isinstance(decoded, np.ndarray) else decoded.cpu().numpy()).tobytes()


@pytest.mark.parametrize("model", range(2))
def test_damage_is_told_in_the_same_words(upload: Upload, model: int) -> None:
    random = np.random.default_rng(4)
    whole = np.frombuffer(frame.encode(reference._Coder(), made("skewed", 3001), 1, model, 1000), np.uint8)
    for _ in range(150):
        stream = whole.copy()
        at = random.integers(0, stream.size, 2)
        stream[at] = random.integers(0, 256, 2)
        if random.random() < 0.2:
            stream = stream[: at[0]]
        expected = told(stream, "numpy")  # tells of the first chunk that is damaged, as the GPU does
        assert told(upload(stream), "cuda") == expected


def test_what_is_refused(upload: Upload) -> None:
    data = np.tile(np.array([1, 2, 3, 4, 5], np.uint8), 1000)  # the conditional model pays
    with pytest.raises(UsageError, match="conditional model is not made on a GPU"):
        ops.arithmetic_encode(upload(data), model="conditional", backend="cuda")
    repeating = ops.arithmetic_encode(data, model="conditional")
    section = encode_section(reference._Coder(), data, Model.CONDITIONAL)
    header = frame.write_header(reference.crc32c, frame.Header(0, data.size, frame.CHUNK), Model.CONDITIONAL)
    chunk = frame.CHUNK_HEADER.pack(len(section), reference.crc32c(data)) + section
    for stream in (repeating, header + chunk):
        np.testing.assert_array_equal(ops.arithmetic_decode(stream, backend="numpy"), data)
        with pytest.raises(UsageError, match="conditional sections"):
            ops.arithmetic_decode(upload(np.frombuffer(stream, np.uint8)), backend="cuda")
    static = np.frombuffer(ops.arithmetic_encode(data), np.uint8)
    with pytest.raises(StreamError, match="the limit is 4999"):
        ops.arithmetic_decode(upload(static), limit=4999, backend="cuda")
    with pytest.raises(UsageError, match="int64"):
        ops.arithmetic_encode(upload(np.zeros(3, np.int64)), backend="cuda")
    with pytest.raises(UsageError, match="dtype"):
        ops.arithmetic_encode(upload(np.zeros(3, np.float32)), dtype="float16", backend="cuda")
    with pytest.raises(UsageError, match="float32"):
        ops.arithmetic_decode(upload(np.zeros(3, np.float32)), backend="cuda")


@pytest.mark.gpu
def test_a_gpu_tensor_goes_to_cuda_by_itself() -> None:
    import torch

    data = torch.zeros(1000, dtype=torch.uint8, device="cuda")
    stream = ops.arithmetic_encode(data=data)  # type: ignore[arg-type]
    assert torch.equal(ops.arithmetic_decode(stream=stream), data)  # type: ignore[arg-type]
    assert ops.chosen()["arithmetic_decode"] == "cuda"
