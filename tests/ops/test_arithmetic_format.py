"""The bytes of the arithmetic coder's streams, and how many they are."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_forensics import ops
from model_forensics.errors import StreamError
from model_forensics.ops._numpy import arithmetic as reference
from model_forensics.ops._stream import frame, models, planes
from model_forensics.ops._stream.reader import varint
from tests.ops.arithmetic_cases import CODER, MODELS, Bytes, decoded, exponents, fixture_is_a_name, related

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
