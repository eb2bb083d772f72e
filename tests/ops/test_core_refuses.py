"""The extension itself: it takes spans of exact types or nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

NONE = np.zeros(0, np.float32)

core: Any = pytest.importorskip("model_forensics._core", reason="the compiled core is not built")


def histogram(symbols: Any, alphabet: int, out: Any, shape: tuple[int, int] | None = None) -> None:
    shapes = np.array([shape or symbols.shape])
    core.histogram(symbols, shapes, -1, 0, NONE, NONE, alphabet, out)


def test_dtypes_are_never_cast() -> None:
    with pytest.raises(TypeError, match="symbols must be uint8"):
        histogram(np.zeros((2, 2), np.int8), 4, np.zeros((2, 4), np.int64))
    with pytest.raises(TypeError, match="out must be int64"):
        histogram(np.zeros((2, 2), np.uint8), 4, np.zeros((2, 4), np.float64))


def test_layouts_it_cannot_read_are_refused() -> None:
    with pytest.raises(ValueError, match="C-contiguous"):
        histogram(np.zeros((4, 2), np.uint8)[::2], 4, np.zeros((2, 4), np.int64))
    unaligned = np.zeros(2 * 4 * 8 + 1, np.uint8)[1:].view(np.int64).reshape(2, 4)
    with pytest.raises(ValueError, match="aligned"):
        histogram(np.zeros((4, 2), np.uint8), 4, unaligned)


def test_read_only_output_is_refused() -> None:
    out = np.zeros((2, 4), np.int64)
    out.setflags(write=False)
    with pytest.raises(ValueError, match="writeable"):
        histogram(np.zeros((4, 2), np.uint8), 4, out)


def test_sizes_are_checked_before_anything_is_written() -> None:
    out = np.full((2, 3), -1, np.int64)
    with pytest.raises(ValueError, match=r"\[channels, alphabet\]"):
        histogram(np.zeros((4, 2), np.uint8), 4, out)
    with pytest.raises(ValueError, match="outside the alphabet"):
        histogram(np.full((4, 2), 9, np.uint8), 3, out)
    with pytest.raises(ValueError, match="size of the sites"):
        histogram(np.zeros((4, 2), np.uint8), 3, out, (5, 2))
    with pytest.raises(ValueError, match="negative"):
        histogram(np.zeros((4, 2), np.uint8), 3, out, (-4, -2))
    with pytest.raises(ValueError, match="63 bits"):
        histogram(np.zeros((4, 2), np.uint8), 3, out, (2**62, 4))
    assert (out == -1).all()


def codelength(symbols: Any, cost: Any, tables: Any, channel: Any, block: tuple[int, int] = (0, 0)) -> None:
    none = np.zeros(0, np.int64)
    shapes = np.array([symbols.shape])
    core.codelength(symbols, shapes, -1, 0, NONE, NONE, cost, tables, *block, channel, none, none, none)


def test_codelength_refuses_before_it_writes() -> None:
    symbols, cost, out = np.full((4, 2), 2, np.uint8), np.zeros((2, 3), np.int32), np.full(2, -1, np.int64)
    every = np.zeros(0, np.int32)
    with pytest.raises(ValueError, match="outside the alphabet"):
        codelength(symbols, cost[:, :2].copy(), every, out)
    with pytest.raises(ValueError, match="not there"):
        codelength(symbols, cost, np.array([0, 2], np.int32), out)
    with pytest.raises(ValueError, match=r"\[channels, alphabet\]"):
        codelength(symbols, cost[:1], every, out)
    with pytest.raises(ValueError, match=r"must be \[channels\]"):
        codelength(symbols, cost, every, np.full(3, -1, np.int64))
    with pytest.raises(ValueError, match="block"):
        codelength(symbols, cost, every, out, (4, 0))
    assert (out == -1).all()


def test_grids_are_checked_by_the_core_too() -> None:
    values, out = np.zeros((2, 2), np.float32), np.full((2, 2), 9, np.uint8)
    shapes, ones = np.array([[2, 2]]), np.ones(2, np.float32)
    for scale, levels, low, step, says in (
        (7, 4, ones, ones, "scale"),
        (0, 256, ones, ones, "levels"),
        (1, 4, ones[:1], ones, "channels"),
        (1, 4, ones, 0 * ones, "above 0"),
        (0, 4, np.nan * ones, ones, "finite"),
    ):
        with pytest.raises(ValueError, match=says):
            core.quantize(values, shapes, scale, levels, low, step, out)
    assert (out == 9).all()


def test_windows_are_checked_before_anything_is_written() -> None:
    windows = np.full(3, -1.0)
    with pytest.raises(ValueError, match="one entry for each window"):
        core.entropy_windows(np.zeros(8, np.uint8), np.array([0, 8]), 4, 4, 256, np.zeros(5, np.int64), windows)
    with pytest.raises(ValueError, match="offsets"):
        core.entropy_windows(np.zeros(8, np.uint8), np.array([0, 9]), 4, 4, 256, np.zeros(5, np.int64), windows)
    assert (windows == -1).all()


def test_entries_are_checked_before_anything_is_written() -> None:
    x, channels, starts = np.ones(4, np.float32), np.array([0, 1, 2, 1]), np.array([0, 4])
    floats, one = np.ones(3, np.float32), np.ones(1)
    out = np.full(4, -1.0), np.full(4, 9, np.uint8), np.full(4, -1.0), np.full((8, 1), -1.0), np.full((1, 2), -1)

    def predictive(channels: Any = channels, starts: Any = starts, degrees: int = 0, symbols: Any = out[1]) -> None:
        classes = np.full(3, degrees, np.uint8)
        model = floats, floats, classes, floats / 2, floats, np.ones((1, 2)), one, 0.25, 0.01, 0.02, 100.0
        core.predictive_bits(x, channels, starts, *model, out[0], symbols, *out[2:])

    for change, says in (
        ({"channels": channels + 1}, "not there"),
        ({"channels": channels - 1}, "not there"),
        ({"channels": channels[:3]}, "entries"),
        ({"starts": np.array([0, 5])}, "starts"),
        ({"starts": np.array([0, 3, 2, 4])}, "starts"),
        ({"degrees": 1}, "class of degrees"),
        ({"symbols": np.zeros(3, np.uint8)}, "wrong size"),
    ):
        with pytest.raises(ValueError, match=says):
            predictive(**change)
    assert all((array == array.flat[0]).all() for array in out)
    predictive()
    assert out[4].sum() == 4


def test_shapes_and_moments_are_checked_before_anything_is_written() -> None:
    x, counts, quantiles = np.ones(4, np.float32), np.full((1, 5), -1), np.full((1, 1), -1, np.float32)
    for starts, most, level in ((np.array([1, 4]), 9, 0.5), (np.array([0, 4]), 0, 0.5), (np.array([0, 4]), 9, np.nan)):
        with pytest.raises(ValueError, match=r"starts|most|level"):
            core.value_shapes(x, starts, most, np.array([level]), counts, quantiles)
    assert (counts == -1).all()
    sums = np.zeros((4, 3))
    with pytest.raises(ValueError, match="not there"):
        core.add_moments(x, np.array([0, 1, 2, 3]), *sums)
    with pytest.raises(ValueError, match=r"\[channels\]"):
        core.add_moments(x, np.array([0, 1, 2, 2]), *sums[:3], np.zeros(2))
    assert not sums.any()


def test_bins_are_checked_before_anything_is_written() -> None:
    x, bins, starts, none = np.ones(4), np.array([0, 1, 1, 2]), np.array([0, 4]), np.zeros(0)
    total, squares = np.full(3, -1.0), np.full(1, -1.0)
    for change, says in (
        ({"bins": bins + 1}, "not there"),
        ({"bins": bins - 1}, "not there"),
        ({"bins": bins[:3]}, "entries"),
        ({"starts": np.array([0, 5])}, "starts"),
        ({"squares": np.full(2, -1.0)}, "sites"),
        ({"spread": np.ones(1)}, "centre"),
        ({"centre": np.ones(3)}, "centre"),
        ({"centre": np.ones(3), "spread": np.ones(2)}, "centre"),
    ):
        given = {"bins": bins, "starts": starts, "centre": none, "spread": none, "squares": squares} | change
        *inputs, out = given.values()
        with pytest.raises(ValueError, match=says):
            core.bin_sums(x, *inputs, 1.0, total, out)
        assert (out == -1).all()
    assert (total == -1).all()
    core.bin_sums(x, bins, starts, none, none, 1.0, total, squares)
    assert total.tolist() == [1, 2, 1]


def test_other_threads_run_while_it_computes() -> None:
    import threading

    symbols = np.zeros((1 << 16, 256), np.uint8)
    out = np.zeros((256, 256), np.int64)
    threads = [threading.Thread(target=histogram, args=(symbols, 256, out.copy())) for _ in range(3)]
    for thread in threads:
        thread.start()
    histogram(symbols, 256, out)
    for thread in threads:
        thread.join()
    assert out.sum() == symbols.size
