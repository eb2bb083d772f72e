"""The arithmetic coder: every backend makes the same stream, reads the others', and refuses what is not one."""

from __future__ import annotations

import hashlib
import itertools
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from model_forensics import ops
from model_forensics.errors import InputRefused, StreamError, UsageError
from model_forensics.ops import _stream
from model_forensics.ops._numpy import arithmetic as reference
from model_forensics.ops._stream import frame, models, planes
from model_forensics.ops._stream.reader import varint

Bytes = npt.NDArray[np.uint8]
ELEMENTS = ("bytes", "float32", "float16", "bfloat16")
MODELS = ("static", "adaptive", "conditional")
CODER = reference._Coder()
fixture_is_a_name = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])

# Bytes as they come: few symbols, many, all equal, skewed.
contents = st.one_of(
    st.binary(max_size=300),
    hnp.arrays(np.uint8, st.integers(0, 2000), elements=st.sampled_from([0, 1, 7, 255])).map(bytes),
    st.builds(lambda n, symbol: bytes([symbol]) * n, st.integers(0, 3000), st.integers(0, 255)),
    st.builds(
        lambda n, seed: np.random.default_rng(seed).normal(128, 5, n).astype(np.uint8).tobytes(),
        st.integers(0, 3000),
        st.integers(0, 9),
    ),
    st.builds(lambda n, seed: related(n, seed).tobytes(), st.integers(0, 9000), st.integers(0, 9)),
)


def exponents(n: int, seed: int = 0) -> Bytes:
    """Bytes like an exponent plane: some four bits of entropy."""
    return np.random.default_rng(seed).normal(120, 4, n).astype(np.uint8)


def related(n: int, seed: int = 0) -> Bytes:
    """Bytes that are much like the ones before, as the exponents of one site after the other."""
    rng = np.random.default_rng(seed)
    return (np.repeat(rng.integers(100, 140, n // 250 + 1), 250)[:n] + rng.integers(-1, 2, n)).astype(np.uint8)


def decoded(stream: bytes | Bytes, backend: str, **arguments: Any) -> bytes:
    return ops.arithmetic_decode(stream, backend=backend, **arguments).tobytes()


@pytest.fixture(params=["portable", "avx2", "avx512"])
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    core = pytest.importorskip("model_forensics._core", reason="the compiled core is not built")
    order = ["portable", "avx2", "avx512"]
    if order.index(request.param) > order.index(core.detected_isa()):
        pytest.skip(f"this processor has no {request.param}")
    core.use_isa(request.param)
    yield request.param
    core.use_isa(core.detected_isa())


# --- round trips, and the same stream everywhere ---------------------------------------------------------------------


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


# --- the format ------------------------------------------------------------------------------------------------------

FLOATS = np.array([1.0, -2.5, 0.0, -0.0, 3.14159, 1e-30, np.inf], "<f4").tobytes() + b"ab"
GOLDEN = [
    (b"", "bytes", "static", "4d4641430100000000000000000000000000400078921fd4"),
    (b"\x07", "bytes", "adaptive", "4d464143010001000100000000000000000040000e1369b1" "02000000ba37b786" "0107"),
    (b"arithmetic", "bytes", "static", "4d464143010000000a000000000000000000400069ed9e38" "0b000000d6e3257e" "00"
     "61726974686d65746963"),
    (b"a" * 16 + b"b" + b"a" * 54, "bytes", "static", "4d46414301000000470000000000000000004000a4deed26"
     "29000000fc6dfd2c" "02" "0000000000000000000000000600000000000000000000000000000000000000" "997e" "e701" "00" "01"
     "19c9"),
    (b"a" * 15 + b"b" + b"a" * 60, "bytes", "adaptive", "4d464143010001004c0000000000000000004000c3201aaf"
     "250000008af26107" "03" "00" "11" "616161616161616161616161616162619f601e6ef11118e5fae4f4f9ea625868b840"),
    (FLOATS, "float32", "static", "4d464143010100001e0000000000000000004000bb98fe83" "220000005d4a61f8"
     "007f800000801bff" "0000400000924400" "00000000001f8400" "0000010001a0c000" "6162"),
]  # fmt: skip
LONG = bytes((i * i * 7 + i // 300) % 61 for i in range(50_000))
GOLDEN_DIGESTS = {
    ("bytes", "static"): "f71bd39d701d6a7379389c99abb1edd0ad1ecda417672587f249bd797f2dbd58",
    ("bytes", "adaptive"): "5a7f2d69af69ce82892ea10d7ad581fdfda26a9dd490f5a40d9ff1ca92ab8edb",
    ("float32", "static"): "dff9798f4ac9655fc321ec48fcda1e8e35476d39fabd1460a27c062032cd3e23",
    ("bfloat16", "adaptive"): "0b7864f5b7871797cc94141a63499fc25d9ec64dd3d9d746a5a34b5349dbc1c9",
}


@pytest.mark.parametrize(("data", "dtype", "model", "stream"), GOLDEN)
def test_golden_streams(backend: str, data: bytes, dtype: Any, model: Any, stream: str) -> None:
    """A change of these bytes is another version of the format."""
    assert ops.arithmetic_encode(data, dtype=dtype, model=model, backend=backend).hex() == stream
    assert decoded(bytes.fromhex(stream), backend) == data


@pytest.mark.parametrize(("dtype", "model"), GOLDEN_DIGESTS)
def test_golden_streams_of_several_lanes(backend: str, dtype: Any, model: Any) -> None:
    stream = ops.arithmetic_encode(LONG, dtype=dtype, model=model, backend=backend)
    assert hashlib.sha256(stream).hexdigest() == GOLDEN_DIGESTS[dtype, model]


def test_the_check_value_of_the_checksum() -> None:
    data = np.frombuffer(b"123456789", dtype=np.uint8)
    assert reference.crc32c(data) == 0xE3069283
    compiled = pytest.importorskip("model_forensics.ops._numba.arithmetic")
    assert compiled.crc32c(data) == 0xE3069283


def test_planes_put_the_sign_last_and_the_exponent_first() -> None:
    values = np.array([1.0, -1.0, 2.0], dtype="<f4").view(np.uint8)
    assert planes.split(values, 4).tolist() == [[127, 127, 128], [0, 0, 0], [0, 0, 0], [0, 1, 0]]
    assert planes.join(planes.split(values, 4)).tolist() == values.tolist()


# --- sizes -----------------------------------------------------------------------------------------------------------

FRAMING = 24 + 8 + 2  # the header, a chunk's header, the kind of the section and its number of lanes
LANE = 3 + 2  # bytes of a lane at most: its size, and the rounding up to whole words


def lanes_of(data: Bytes, most: int) -> int:
    counts = models.count(data)
    return 1 << models.lanes_log2(models.static_cost(counts, models.static_frequencies(counts)), most)


SIZES = {
    "exponents": exponents(1_000_000),
    "short": exponents(10_000),
    "skewed": (np.random.default_rng(1).random(300_000) < 0.001).astype(np.uint8),
    "two": np.random.default_rng(2).integers(0, 2, 500_000, dtype=np.uint8),
    "all but one": np.repeat(np.array([3, 4], np.uint8), [100_000, 1]),
    "uneven": np.minimum(np.random.default_rng(4).zipf(1.3, 400_000), 255).astype(np.uint8),
}


@pytest.mark.parametrize("name", SIZES)
def test_static_size_is_the_codelength_of_its_table(name: str) -> None:
    data = SIZES[name]
    counts = models.count(data)
    frequencies = models.static_frequencies(counts)
    table = 32 + sum(len(varint(int(f))) for f in frequencies if f)
    cost = models.STATIC_BITS - np.log2(np.maximum(frequencies, 1))
    expected = ops.codelength(data[:, None], cost[None].astype(np.float32), reduce="site").item() / 8
    got = len(ops.arithmetic_encode(data)) - FRAMING - table - LANE * lanes_of(data, 5)
    assert -(LANE * lanes_of(data, 5)) <= got - expected <= 0.001 * expected + 16
    entropy = ops.entropy_windows(data[: 1 << 20], window=min(data.size, 1 << 20), stride=1)[0] * data.size / 8
    assert expected >= entropy * (1 - 1e-6)


@pytest.mark.parametrize("name", [*SIZES, "millions of one"])
def test_adaptive_size_is_that_of_codelength_adaptive(name: str) -> None:
    """Within 0.1 % + 16 bytes and the framing, but for very skewed data of some 100,000 symbols and more.

    There the floor of 2^-20 that every symbol keeps counts: at most 256 · 2^-20 · log2(e) = 3.5e-4 bits a symbol, which
    is below 0.1 % from 0.35 bits a symbol on.
    """
    data = SIZES.get(name, np.repeat(np.array([0, 1], np.uint8), [4_000_000, 100]))
    expected = ops.codelength_adaptive(data[:, None], alphabet=256).item() / 8
    floor = data.size * 256 * 2.0**-20 / np.log(2.0) / 8 if 8 * expected < 0.35 * data.size else 0.0
    got = len(ops.arithmetic_encode(data, model="adaptive")) - FRAMING
    framing = LANE * lanes_of(data, 3)
    assert -0.001 * expected - 16 <= got - expected <= 0.001 * expected + 16 + framing + floor


def test_the_conditional_model_sees_what_came_before_and_costs_nothing_where_it_does_not_help() -> None:
    alike, unrelated = related(400_000), exponents(100_000)
    pairs = models.count_pairs(alike, 8)
    share = pairs / np.maximum(pairs.sum(axis=1, keepdims=True), 1)
    entropy = -(pairs * np.log2(np.where(pairs > 0, share, 1))).sum() / 8
    size = len(ops.arithmetic_encode(alike, model="conditional"))
    assert entropy <= size < 1.1 * entropy  # tables of all contexts
    assert size < 0.6 * len(ops.arithmetic_encode(alike))
    same = ops.arithmetic_encode(unrelated, model="conditional"), ops.arithmetic_encode(unrelated)
    assert same[0][33:] == same[1][32:]  # but for a byte that says that nothing repeats


def test_damaged_tables_of_the_conditional_model_are_refused(backend: str) -> None:
    def stream(section: bytes, size: int = 40, flags: int = 0) -> Bytes:
        header = frame.HEADER.pack(frame.MAGIC, frame.VERSION, 0, 2, flags, size, frame.CHUNK)
        header += frame.CHECKSUM.pack(CODER.crc32c(np.frombuffer(header, np.uint8)))
        return np.frombuffer(header + frame.CHUNK_HEADER.pack(len(section), 0) + section, np.uint8)

    whole = varint(1 << 14)
    cases = {
        "out of order": bytes([4, 1, 9, 7, 7]) + whole + bytes([9, 7, 7]) + whole,
        "do not add up": bytes([4, 0, 9, 7, 8]) + whole + whole,
        "ends early": bytes([4, 200, 9, 7, 7]) + whole,
        "too large": bytes([4, 0, 9, 7, 7]) + varint((1 << 14) + 1),
        "too many lanes": bytes([4, 0, 0, 7, 7]) + whole + bytes([4]),
        "differ from their checksum": bytes([4, 0, 9, 7, 7]) + whole + bytes([0, 0]),  # 0 has no table
    }
    for reason, section in cases.items():
        with pytest.raises(StreamError, match=reason):
            ops.arithmetic_decode(stream(section), backend=backend)
    repeats = {
        "ends early": bytes([9, 1, 1, 1]),
        "too large": bytes([1, 41, 0, 1, 1, 7]),
        "repeats itself": bytes([1, 1, 1, 0, 1, 7]),
        "number that is too large": bytes([1, 1, 1, 2, 1, 7]),  # from before the beginning
        "differ from their checksum": bytes([1, 1, 39, 1, 1, 7]),
    }
    for reason, section in repeats.items():
        with pytest.raises(StreamError, match=reason):
            ops.arithmetic_decode(stream(section, flags=frame.REPEATS), backend=backend)


def test_what_stood_before_is_stored_once(backend: str) -> None:
    rng = np.random.default_rng(5)
    row = rng.standard_normal(300).astype(np.float32)
    rows = np.concatenate([row, rng.standard_normal(500).astype(np.float32), row[7:], row[:90], row[:90], row])
    once = len(ops.arithmetic_encode(np.concatenate([row, rows[300:800]]), model="conditional", backend=backend))
    stream = ops.arithmetic_encode(rows, model="conditional", backend=backend)
    assert stream == ops.arithmetic_encode(rows, model="conditional", backend="numpy")
    assert len(stream) < once + 500
    assert decoded(stream, backend) == rows.tobytes()


@fixture_is_a_name
@given(data=st.data())
def test_repeats_are_found_alike_everywhere(backend: str, data: st.DataObject) -> None:
    """Rows of a few kinds, one after the other, so that repeats overlap, nest and follow one another."""
    width = data.draw(st.sampled_from([1, 2, 4]))
    dtype = {1: "bytes", 2: "bfloat16", 4: "float32"}[width]
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    kinds = [rng.integers(0, data.draw(st.sampled_from([2, 256])), width * n, np.uint8) for n in (64, 65, 130, 200, 1)]
    chosen = data.draw(st.lists(st.integers(0, len(kinds) - 1), max_size=14))
    content = np.concatenate([kinds[k] for k in chosen] or [np.zeros(0, np.uint8)]).tobytes()
    stream = ops.arithmetic_encode(content, dtype=dtype, model="conditional", backend=backend)  # type: ignore[arg-type]
    assert stream == ops.arithmetic_encode(content, dtype=dtype, model="conditional", backend="numpy")  # type: ignore[arg-type]
    assert decoded(stream, backend) == content


def test_what_cannot_be_coded_is_stored_as_it_is(backend: str) -> None:
    noise = np.random.default_rng(8).integers(0, 256, 9_000, dtype=np.uint8)
    for model in MODELS:
        framing = 24 + 8 + 1 + (model == "conditional")
        assert len(ops.arithmetic_encode(noise, model=model, backend=backend)) == noise.size + framing  # type: ignore[arg-type]
    assert len(ops.arithmetic_encode(np.full(9_000, 9, np.uint8), backend=backend)) == 24 + 8 + 2


# --- damage ----------------------------------------------------------------------------------------------------------


def small_streams() -> list[tuple[bytes, bytes]]:
    values = np.random.default_rng(9).standard_normal(90).astype(np.float16)
    cases = [(values.tobytes() + b"x", dtype, model) for dtype in ("bytes", "float16") for model in MODELS]
    cases += [(exponents(400).tobytes(), "bytes", model) for model in MODELS]
    return [(data, ops.arithmetic_encode(data, dtype=dtype, model=model)) for data, dtype, model in cases]  # type: ignore[arg-type]


@pytest.mark.parametrize("number", range(6))
def test_truncated_streams_are_refused(backend: str, number: int) -> None:
    _, stream = small_streams()[number]
    for size in range(len(stream)):
        with pytest.raises(StreamError, match="cannot be decoded"):
            ops.arithmetic_decode(stream[:size], backend=backend)
    with pytest.raises(StreamError, match="bytes follow its end"):
        ops.arithmetic_decode(stream + b"x", backend=backend)


@pytest.mark.parametrize("number", range(6))
def test_a_changed_byte_is_refused_or_changes_nothing(backend: str, number: int) -> None:
    data, stream = small_streams()[number]
    for position, change in itertools.product(range(len(stream)), (1, 0x80, 0xFF)):
        damaged = bytearray(stream)
        damaged[position] ^= change
        try:
            got = decoded(bytes(damaged), backend)
        except StreamError:
            continue
        assert got == data, position


@fixture_is_a_name
@given(number=st.integers(0, 5), changes=st.lists(st.tuples(st.integers(24, 500), st.integers(0, 255)), max_size=4))
def test_backends_refuse_the_same(number: int, changes: list[tuple[int, int]]) -> None:
    damaged = bytearray(small_streams()[number][1])
    for position, byte in changes:
        damaged[position % len(damaged)] = byte
    assert outcome(bytes(damaged), "numpy") == outcome(bytes(damaged), "numba") == outcome(bytes(damaged), "auto")


def outcome(stream: bytes, backend: str) -> bytes | str:
    try:
        return decoded(stream, backend)
    except StreamError as error:
        return str(error)


def stream_of(
    body: bytes,
    size: int,
    *,
    element: int = 0,
    model: int = 0,
    chunk: int = frame.CHUNK,
    flags: int = 0,
    version: int = 1,
) -> bytes:
    """A stream whose header is sound, with what follows as given."""
    header = frame.HEADER.pack(frame.MAGIC, frame.VERSION, element, model, flags, size, chunk)
    return header + struct.pack("<I", reference.crc32c(np.frombuffer(header, np.uint8))) + body


def chunk_of(sections: bytes, data: bytes) -> bytes:
    return struct.pack("<II", len(sections), reference.crc32c(np.frombuffer(data, np.uint8))) + sections


def table_of(*frequencies: tuple[int, int]) -> bytes:
    present = sum(1 << symbol for symbol, _ in frequencies).to_bytes(32, "little")
    return b"\x02" + present + b"".join(varint(frequency) for _, frequency in frequencies)


HOSTILE = [
    (b"", "shorter than a header"),
    (b"MFAD" + bytes(20), "does not begin with 'MFAC'"),
    (b"MFAC\x02" + bytes(19), "its version is 2"),
    (stream_of(b"", 1)[:-1] + b"?", "header is damaged"),
    (stream_of(b"", 0, model=3), "flags of another version"),
    (stream_of(b"", 0, flags=2), "flags of another version"),
    (stream_of(b"", 0, element=4), "unknown element"),
    (stream_of(b"", 0, chunk=0), "impossible size"),
    (stream_of(b"", 0, chunk=frame.MOST_CHUNK + 4), "impossible size"),
    (stream_of(b"", 0, chunk=6, element=1), "impossible size"),
    (stream_of(bytes(100), 1 << 60), "ends early"),
    (stream_of(bytes(100), (1 << 64) - 1, chunk=1), "ends early"),
    (stream_of(bytes(16), 2, chunk=1), "ends early"),
    (stream_of(b"\xff\xff\xff\xff" + bytes(30), 9), "ends early"),
    (stream_of(chunk_of(b"\x00abc", b"abc") + b"x", 3), "bytes follow its end"),
    (stream_of(chunk_of(b"\x00abcd", b"abc"), 3), "another size than its sections"),
    (stream_of(chunk_of(b"\x00ab", b"abc"), 3), "section ends early"),
    (stream_of(chunk_of(b"\x05abc", b"abc"), 3), "unknown kind"),
    (stream_of(chunk_of(b"\x01a", b"abc"), 3), "differ from their checksum"),
    (stream_of(chunk_of(table_of((97, 16383)) + bytes(9), b"aaa"), 3), "do not add up"),
    (stream_of(chunk_of(table_of((97, 16384), (98, 1)) + bytes(9), b"aaa"), 3), "do not add up"),
    (stream_of(chunk_of(table_of((97, 16384), (98, 0)) + bytes(9), b"aaa"), 3), "no frequency"),
    (stream_of(chunk_of(table_of((97, 16385)) + bytes(9), b"aaa"), 3), "number that is too large"),
    (stream_of(chunk_of(table_of((97, 1 << 36)) + bytes(9), b"aaa"), 3), "number that is too large"),
    (stream_of(chunk_of(table_of((97, 16384)) + b"\x06" + bytes(99), b"aaa"), 3), "too many lanes"),
    (stream_of(chunk_of(table_of((97, 16384)) + b"\x00" + varint(11), b"aaa"), 3), "number that is too large"),
    (stream_of(chunk_of(table_of((97, 16384)) + b"\x00\x0a", b"aaa"), 3), "section ends early"),
    (stream_of(chunk_of(b"\x03\x04" + bytes(99), b"aaa"), 3), "too many lanes"),
    (stream_of(chunk_of(b"\x03\x03" + bytes(7), b"aaa"), 3), "section ends early"),
]


@pytest.mark.parametrize(("stream", "says"), HOSTILE)
def test_hostile_streams_are_refused(backend: str, stream: bytes, says: str) -> None:
    with pytest.raises(StreamError, match=says) as caught:
        ops.arithmetic_decode(stream, backend=backend, limit=1 << 62)
    assert isinstance(caught.value, InputRefused)
    assert str(caught.value).startswith("arithmetic_decode: ")


def test_a_table_of_one_symbol_and_words_of_zero_need_no_bytes(backend: str) -> None:
    stream = stream_of(chunk_of(table_of((97, 16384)) + b"\x00\x00", b"aaa"), 3)
    assert decoded(stream, backend) == b"aaa"


@fixture_is_a_name
@given(body=st.binary(max_size=120), size=st.integers(0, 300), element=st.integers(0, 3))
def test_backends_say_the_same_of_any_bytes(body: bytes, size: int, element: int) -> None:
    stream = stream_of(struct.pack("<I", max(len(body) - 4, 0)) + body, size, element=element)
    assert outcome(stream, "numpy") == outcome(stream, "numba") == outcome(stream, "auto")
    assert outcome(body, "numpy") == outcome(body, "auto")
