"""The arithmetic coder: every backend makes the same stream, reads the others', and refuses wrong arguments."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from model_forensics import ops
from model_forensics.errors import StreamError, UsageError
from model_forensics.ops import _stream
from model_forensics.ops._stream import frame
from tests.ops.arithmetic_cases import CODER, ELEMENTS, MODELS, contents, decoded, exponents, fixture_is_a_name


@pytest.fixture(params=["portable", "avx2", "avx512"])
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    core = pytest.importorskip("model_forensics._core", reason="the compiled core is not built")
    order = ["portable", "avx2", "avx512"]
    if order.index(request.param) > order.index(core.detected_isa()):
        pytest.skip(f"this processor has no {request.param}")
    core.use_isa(request.param)
    yield request.param
    core.use_isa(core.detected_isa())


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("dtype", ELEMENTS)
@fixture_is_a_name
@given(data=contents)
@example(data=b"")
@example(data=b"\x00")
@example(data=b"\x00\x01")
@example(data=bytes(range(256)) * 9)
def test_any_bytes_come_back_and_backends_agree(backend: str, dtype: Any, model: Any, data: bytes) -> None:
    stream = ops.arithmetic_encode(data, model=model, dtype=dtype, backend=backend)
    assert decoded(stream, backend) == data
    assert stream == ops.arithmetic_encode(data, model=model, dtype=dtype, backend="numpy")
    assert len(stream) <= len(data) + 24 + 13


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("number", [np.float32, np.float16])
@fixture_is_a_name
@given(data=st.data())
def test_values_of_any_bit_pattern_come_back(backend: str, number: Any, model: Any, data: st.DataObject) -> None:
    values = data.draw(hnp.arrays(number, st.integers(0, 90)))  # NaN, infinities, denormals and -0 among them
    payloads = data.draw(hnp.arrays(np.uint8, values.nbytes))  # every bit pattern
    for array in (values, payloads.view(number)):
        stream = ops.arithmetic_encode(array, model=model, backend=backend)
        assert decoded(stream, backend) == array.tobytes()
        assert stream == ops.arithmetic_encode(array.tobytes(), dtype=array.dtype.name, model=model, backend="numpy")  # type: ignore[arg-type]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("size", [7_919, 16_411, 33_331, 70_001, 150_011, 300_007, 600_011])
def test_every_number_of_lanes(backend: str, model: Any, size: int) -> None:
    data = exponents(size)
    stream = ops.arithmetic_encode(data, model=model, backend=backend)
    assert decoded(stream, backend) == data.tobytes()
    if size < 80_000:
        assert stream == ops.arithmetic_encode(data, model=model, backend="numpy")
    elif backend != "cpp":
        assert stream == ops.arithmetic_encode(data, model=model)


@pytest.mark.parametrize("encoder", ["numpy", "numba", "cpp"])
@pytest.mark.parametrize("model", MODELS)
def test_each_backend_reads_the_others(backend: str, encoder: str, model: Any) -> None:
    if ops.backends()["arithmetic_encode"][encoder] != "available":
        pytest.skip(f"backend '{encoder}' is not here")
    values = np.random.default_rng(3).standard_normal(3_001).astype(np.float32)
    assert decoded(ops.arithmetic_encode(values, model=model, backend=encoder), backend) == values.tobytes()


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("dtype", ELEMENTS)
@pytest.mark.parametrize("size", [0, 1, 31, 4_099, 65_537, 700_001])
def test_every_instruction_set_makes_and_reads_the_same(isa: str, dtype: Any, model: Any, size: int) -> None:
    data = exponents(size)
    stream = ops.arithmetic_encode(data, dtype=dtype, model=model, backend="cpp")
    assert decoded(stream, "cpp") == data.tobytes()
    assert stream == ops.arithmetic_encode(data, dtype=dtype, model=model, backend="numba")


@pytest.mark.parametrize("beyond", [-1, 0, 1, 5])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_chunk_boundaries_and_threads(beyond: int, threads: int) -> None:
    core = pytest.importorskip("model_forensics._core", reason="the compiled core is not built")
    data = exponents(2 * frame.CHUNK + beyond)
    before = core.threads()
    core.set_threads(threads)
    try:
        for dtype in ("bytes", "float32"):
            stream = ops.arithmetic_encode(data, dtype=dtype, backend="cpp")  # type: ignore[arg-type]
            assert decoded(stream, "cpp") == data.tobytes()
            assert decoded(stream, "numba") == data.tobytes()
            assert stream == ops.arithmetic_encode(data, dtype=dtype, backend="numba")  # type: ignore[arg-type]
    finally:
        core.set_threads(before)


@pytest.mark.parametrize("dtype", ELEMENTS)
def test_chunks_of_any_size_are_read(backend: str, dtype: str) -> None:
    data = exponents(1_003)
    for chunk in (4, 100, 1_000, 1_004, frame.MOST_CHUNK):
        stream = _stream.encode(CODER, data, ELEMENTS.index(dtype), 0, chunk)
        assert decoded(stream, backend) == data.tobytes()


# --- what may be passed ----------------------------------------------------------------------------------------------


def test_forms_of_the_same_data(backend: str) -> None:
    data = exponents(997)
    stream = ops.arithmetic_encode(data, backend=backend)
    wide = np.repeat(data, 2)
    wide.setflags(write=False)
    forms = (data.tobytes(), bytearray(data), memoryview(data), memoryview(wide)[::2], wide[::2], data[:, None])
    for form in forms:
        assert ops.arithmetic_encode(form, backend=backend) == stream
    unaligned = np.frombuffer(b"x" + stream, dtype=np.uint8)[1:]
    for coded in (bytearray(stream), memoryview(stream), unaligned, np.repeat(unaligned, 3)[::3]):
        assert decoded(coded, backend) == data.tobytes()  # type: ignore[arg-type]


def test_unaligned_and_strided_values(backend: str) -> None:
    values = np.random.default_rng(5).standard_normal((40, 7)).astype(np.float32)
    unaligned = np.frombuffer(b"x" + values.tobytes(), dtype=np.uint8)[1:].view(np.float32)
    stream = ops.arithmetic_encode(values, backend=backend)
    assert ops.arithmetic_encode(unaligned, backend=backend) == stream
    assert ops.arithmetic_encode(np.asfortranarray(values), backend=backend) == stream
    assert decoded(ops.arithmetic_encode(values[:, ::2], backend=backend), backend) == values[:, ::2].tobytes()


def test_bfloat16_is_named_by_the_caller(backend: str) -> None:
    values = (np.random.default_rng(6).standard_normal(999).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    stream = ops.arithmetic_encode(values, dtype="bfloat16", backend=backend)
    assert len(stream) < 0.72 * values.nbytes
    assert decoded(stream, backend) == values.tobytes()
    with pytest.raises(UsageError, match="dtype='bfloat16'"):
        ops.arithmetic_encode(values, backend=backend)


@pytest.mark.parametrize(
    ("data", "arguments", "says"),
    [
        (b"abc", {"model": "order-2"}, "model is 'order-2'.*'static', 'adaptive'"),
        (b"abc", {"dtype": "float64"}, "dtype is 'float64'.*'bfloat16'"),
        (np.zeros(3), {}, "float64.*data.view"),
        (np.zeros(3, ">f4"), {}, ">f4"),
        (np.zeros(3, np.float32), {"dtype": "float16"}, "dtype is 'float16'"),
        ([1, 2, 3], {}, "data is a list"),
        ("text", {}, "data is a str"),
    ],
)
def test_wrong_arguments_say_what_is_accepted(backend: str, data: Any, arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        ops.arithmetic_encode(data, backend=backend, **arguments)


def test_wrong_streams_and_limits_say_what_is_accepted(backend: str) -> None:
    with pytest.raises(UsageError, match="stream is a list"):
        ops.arithmetic_decode([1], backend=backend)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="stream is float32"):
        ops.arithmetic_decode(np.zeros(9, np.float32), backend=backend)  # type: ignore[arg-type]
    for limit in (-1, 1.5, True):
        with pytest.raises(UsageError, match="limit is"):
            ops.arithmetic_decode(b"", limit=limit, backend=backend)  # type: ignore[arg-type]


def test_the_limit_is_what_may_come_out(backend: str) -> None:
    stream = ops.arithmetic_encode(bytes(1000), backend=backend)
    assert decoded(stream, backend, limit=1000) == bytes(1000)
    with pytest.raises(StreamError, match=r"decodes to 1000 bytes, and the limit is 999.*limit=1000"):
        ops.arithmetic_decode(stream, limit=999, backend=backend)
