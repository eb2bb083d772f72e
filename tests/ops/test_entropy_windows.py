from __future__ import annotations

import importlib
import itertools
from collections.abc import Iterator
from types import ModuleType

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from model_forensics import ops
from model_forensics.errors import UsageError
from model_forensics.ops import _tables
from model_forensics.ops._dispatch import AVAILABLE

Symbols = npt.NDArray[np.uint8]
fixture_is_a_name = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


MACHINES = ("numba", *(f"cpp {isa} {threads}" for isa in ("portable", "avx2", "avx512") for threads in (1, 2, 3)))


@pytest.fixture(params=MACHINES)
def machine(request: pytest.FixtureRequest) -> Iterator[str]:
    """A backend's name, the compiled core's once for every instruction set and number of threads."""
    name, *settings_of_core = str(request.param).split()
    state = ops.backends()["entropy_windows"][name]
    if state != AVAILABLE:
        pytest.skip(f"backend '{name}': {state}")
    if not settings_of_core:
        yield name
        return
    core = importlib.import_module("model_forensics._core")
    isa, threads = settings_of_core
    before = core.isa(), core.threads()
    try:
        core.use_isa(isa)
    except ValueError as error:
        pytest.skip(f"{isa}: {error}")
    core.set_threads(int(threads))
    yield name
    core.use_isa(before[0])
    core.set_threads(before[1])


def textbook(symbols: Symbols, window: int, stride: int) -> npt.NDArray[np.float64]:
    """−Σ p log2 p of each window, straight from the definition."""
    bits = []
    for start in range(0, len(symbols) - window + 1, stride):
        counts = np.bincount(symbols[start : start + window])
        p = counts[counts > 0] / window
        bits.append(-(p * np.log2(p)).sum())
    return np.array(bits, dtype=np.float64)


@fixture_is_a_name
@given(
    symbols=hnp.arrays(np.uint8, st.integers(0, 300)),
    window=st.integers(1, 70),
    stride=st.integers(1, 90),
    cuts=st.lists(st.integers(0, 300), max_size=4),
)
@example(symbols=np.zeros(0, np.uint8), window=1, stride=1, cuts=[])
def test_agrees_with_the_definition_and_exactly_with_the_reference(
    backend: str, symbols: Symbols, window: int, stride: int, cuts: list[int]
) -> None:
    inner = sorted(min(cut, symbols.size) for cut in cuts)
    offsets = np.array([0, *inner, symbols.size], dtype=np.int64)
    got = ops.entropy_windows(symbols, window=window, stride=stride, offsets=offsets, backend=backend)
    rows = [symbols[a:b] for a, b in itertools.pairwise(offsets)]
    expected = np.concatenate([textbook(row, window, stride) for row in rows])
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-9)
    reference = ops.entropy_windows(symbols, window=window, stride=stride, offsets=offsets, backend="numpy")
    np.testing.assert_array_equal(got, reference)


@pytest.mark.parametrize("alphabet", [16, 256])
@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 997, 4099])
def test_odd_sizes(backend: str, size: int, alphabet: int) -> None:
    symbols = np.random.default_rng(size).integers(0, alphabet, size, dtype=np.uint8)
    got = ops.entropy_windows(symbols, alphabet=alphabet, backend=backend)
    assert got.dtype == np.float64
    assert got.shape == (0 if size < 256 else (size - 256) // 64 + 1,)
    np.testing.assert_allclose(got, textbook(symbols, 256, 64), rtol=0, atol=1e-9)


def test_known_values_are_exact(backend: str) -> None:
    constant = np.zeros(512, dtype=np.uint8)
    assert ops.entropy_windows(constant, backend=backend).tolist() == [0.0] * 5
    every_byte_once = np.arange(256, dtype=np.uint8)
    assert ops.entropy_windows(every_byte_once, backend=backend).tolist() == [8.0]
    coin = np.array([3, 200] * 8, dtype=np.uint8)
    assert ops.entropy_windows(coin, window=16, stride=1, backend=backend).tolist() == [1.0]


def test_views_and_read_only_arrays(backend: str) -> None:
    wide = np.random.default_rng(1).integers(0, 256, 2000, dtype=np.uint8)
    view = wide[::2]
    wide.setflags(write=False)
    expected = ops.entropy_windows(view.copy(), backend="numpy")
    np.testing.assert_array_equal(ops.entropy_windows(view, backend=backend), expected)
    np.testing.assert_array_equal(ops.entropy_windows(wide[::-2][::-1], backend=backend).shape, expected.shape)


SHAPES = [
    *[
        (window, stride)
        for window in (1, 16, 48, 100, 255, 256, 257)
        for stride in (1, 15, 16, 17, 48, 64, 100, 256, 300)
    ],
    (256, 1 << 20),
    (1 << 16, 3000),
    ((1 << 16) - 1, 70_000),
    (1 << 20, 150_000),
    (1 << 20, 1 << 21),
]


def streams(alphabet: int, size: int = 300_000) -> dict[str, Symbols]:
    """Level, steep, constant, and runs: counts go through everything from 0 to 256."""
    random = np.random.default_rng(alphabet)
    steep = np.minimum(random.geometric(0.6, size) - 1, alphabet - 1).astype(np.uint8)
    runs = np.repeat(random.integers(0, alphabet, size, dtype=np.uint8), random.integers(1, 300, size))[:size]
    level = random.integers(0, alphabet, size, dtype=np.uint8)
    return {"level": level, "steep": steep, "constant": np.full(size, alphabet - 1, np.uint8), "runs": runs}


@pytest.mark.parametrize("machine", ["numba", "cpp portable 1", "cpp avx2 1", "cpp avx512 1"], indirect=True)
@pytest.mark.parametrize(("window", "stride"), SHAPES)
def test_every_shape_agrees_with_the_reference(machine: str, window: int, stride: int) -> None:
    size = window + min(max(5000, 2 * window), 300_000)
    for alphabet in (16, 256):
        for kind, symbols in streams(alphabet, size).items():
            for length in (window - 1, window, window + 1, size) if kind == "level" else (size,):
                part = symbols[:length]
                got = ops.entropy_windows(part, window=window, stride=stride, alphabet=alphabet, backend=machine)
                expected = ops.entropy_windows(part, window=window, stride=stride, alphabet=alphabet, backend="numpy")
                np.testing.assert_array_equal(got, expected, err_msg=f"{kind}, alphabet {alphabet}, length {length}")


@fixture_is_a_name
@given(
    seed=st.integers(0, 2**32 - 1),
    alphabet=st.sampled_from([2, 15, 16, 17, 200, 256]),
    window=st.one_of(st.integers(1, 600), st.integers(1, 16).map(lambda n: 16 * n)),
    stride=st.one_of(st.integers(1, 600), st.integers(1, 20).map(lambda n: 16 * n)),
    lengths=st.lists(st.one_of(st.integers(0, 3000), st.sampled_from([0, 1, 80_000, 600_011])), max_size=5),
    shift=st.integers(0, 64),
)
def test_rows_of_any_length_in_every_backend_and_instruction_set(
    machine: str, seed: int, alphabet: int, window: int, stride: int, lengths: list[int], shift: int
) -> None:
    offsets = np.concatenate([[0], np.cumsum(np.array(lengths, np.int64))]).astype(np.int64)
    random = np.random.default_rng(seed)
    p = random.dirichlet(np.full(alphabet, random.choice([0.05, 1.0])))
    symbols = random.choice(np.arange(alphabet, dtype=np.uint8), int(offsets[-1]) + shift, p=p)[shift:]
    symbols.setflags(write=False)
    arguments = {"window": window, "stride": stride, "alphabet": alphabet, "offsets": offsets}
    if stride < 32:  # keeps the reference quick
        symbols, arguments["offsets"] = symbols[: offsets[1:2].sum()], None
        symbols = symbols[:5000]
    expected = ops.entropy_windows(symbols, backend="numpy", **arguments)  # type: ignore[arg-type]
    np.testing.assert_array_equal(ops.entropy_windows(symbols, backend=machine, **arguments), expected)  # type: ignore[arg-type]


@pytest.mark.parametrize("alphabet", [16, 200])
@pytest.mark.parametrize("place", [0, 99, 100, 250_000, 299_999])
def test_a_symbol_outside_the_alphabet_is_found_wherever_it_is(machine: str, alphabet: int, place: int) -> None:
    symbols = np.zeros(300_000, np.uint8)
    symbols[place] = alphabet
    offsets = np.array([0, 100, 100, 299_990, 300_000], np.int64)  # the first and the last row have no window
    for stride in (64, 1000):  # the second leaves gaps
        with pytest.raises(UsageError, match=f"symbol {alphabet} is outside the alphabet of {alphabet}"):
            ops.entropy_windows(symbols, alphabet=alphabet, stride=stride, offsets=offsets, backend=machine)


def test_a_cost_table_that_is_no_entropy_is_summed_all_the_same(implementation: ModuleType) -> None:
    """The fast paths ask something of the table; one that does not give it takes the general path."""
    symbols = streams(16, 3000)["runs"]
    offsets = np.array([0, symbols.size], np.int64)
    cost = np.random.default_rng(0).integers(-(2**50), 2**50, 257)
    cost[0] = 0
    out = np.full((symbols.size - 256) // 64 + 1, np.nan)
    implementation.entropy_windows(symbols, offsets, 256, 64, 16, cost, out)
    counts = [np.bincount(symbols[start : start + 256], minlength=16) for start in range(0, symbols.size - 255, 64)]
    expected = [float(cost[256] - cost[c].sum()) / (256 * 2.0**32) for c in counts]
    np.testing.assert_array_equal(out, expected)


def test_every_output_is_written(implementation: ModuleType) -> None:
    symbols = np.random.default_rng(2).integers(0, 256, 1000, dtype=np.uint8)
    offsets = np.array([0, 100, 100, 1000], dtype=np.int64)
    out = np.full((900 - 256) // 64 + 1, np.nan)
    implementation.entropy_windows(symbols, offsets, 256, 64, 256, _tables.window_costs(256), out)
    assert np.isfinite(out).all()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"window": 0}, "window is 0"),
        ({"window": -4}, "window is -4"),
        ({"window": 2.5}, "window is 2.5"),
        ({"window": 1 << 21}, "1048576"),
        ({"stride": 0}, "stride is 0"),
        ({"stride": True}, "stride is True"),
        ({"alphabet": 1}, "from 2 to 256"),
        ({"alphabet": 257}, "from 2 to 256"),
        ({"alphabet": 16}, "outside the alphabet of 16"),
        ({"offsets": np.array([0, 5], dtype=np.int64)}, "end at 300"),
        ({"offsets": np.array([0, 200, 100, 300], dtype=np.int64)}, "do not decrease"),
        ({"offsets": np.array([0, 300], dtype=np.int32)}, "int64"),
        ({"offsets": [0, 300]}, "not a NumPy array"),
    ],
)
def test_wrong_arguments_say_what_is_accepted(backend: str, arguments: dict[str, object], says: str) -> None:
    symbols = np.full(300, 200, dtype=np.uint8)
    with pytest.raises(UsageError, match=says):
        ops.entropy_windows(symbols, backend=backend, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.float32, np.bool_])
def test_other_dtypes_are_refused_not_cast(backend: str, dtype: type) -> None:
    with pytest.raises(UsageError, match="uint8"):
        ops.entropy_windows(np.zeros(300, dtype=dtype), backend=backend)


def test_two_dimensions_are_refused(backend: str) -> None:
    with pytest.raises(UsageError, match="shape"):
        ops.entropy_windows(np.zeros((3, 300), dtype=np.uint8), backend=backend)
