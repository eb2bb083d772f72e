"""The extension itself: it takes spans of exact types or nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

core: Any = pytest.importorskip("model_forensics._core", reason="the compiled core is not built")


def test_dtypes_are_never_cast() -> None:
    with pytest.raises(TypeError, match="symbols must be uint8"):
        core.histogram(np.zeros((2, 2), np.int8), 4, np.zeros((2, 4), np.int64))
    with pytest.raises(TypeError, match="out must be int64"):
        core.histogram(np.zeros((2, 2), np.uint8), 4, np.zeros((2, 4), np.float64))


def test_layouts_it_cannot_read_are_refused() -> None:
    with pytest.raises(ValueError, match="C-contiguous"):
        core.histogram(np.zeros((4, 2), np.uint8)[::2], 4, np.zeros((2, 4), np.int64))
    unaligned = np.zeros(2 * 4 * 8 + 1, np.uint8)[1:].view(np.int64).reshape(2, 4)
    with pytest.raises(ValueError, match="aligned"):
        core.histogram(np.zeros((4, 2), np.uint8), 4, unaligned)


def test_read_only_output_is_refused() -> None:
    out = np.zeros((2, 4), np.int64)
    out.setflags(write=False)
    with pytest.raises(ValueError, match="writeable"):
        core.histogram(np.zeros((4, 2), np.uint8), 4, out)


def test_sizes_are_checked_before_anything_is_written() -> None:
    out = np.full((2, 3), -1, np.int64)
    with pytest.raises(ValueError, match=r"\[channels, alphabet\]"):
        core.histogram(np.zeros((4, 2), np.uint8), 4, out)
    with pytest.raises(ValueError, match="outside the alphabet"):
        core.histogram(np.full((4, 2), 9, np.uint8), 3, out)
    assert (out == -1).all()
    windows = np.full(3, -1.0)
    with pytest.raises(ValueError, match="one entry for each window"):
        core.entropy_windows(np.zeros(8, np.uint8), np.array([0, 8]), 4, 4, 256, np.zeros(5, np.int64), windows)
    with pytest.raises(ValueError, match="offsets"):
        core.entropy_windows(np.zeros(8, np.uint8), np.array([0, 9]), 4, 4, 256, np.zeros(5, np.int64), windows)
    assert (windows == -1).all()


def test_other_threads_run_while_it_computes() -> None:
    import threading

    symbols = np.zeros((1 << 16, 256), np.uint8)
    out = np.zeros((256, 256), np.int64)
    threads = [threading.Thread(target=core.histogram, args=(symbols, 256, out.copy())) for _ in range(3)]
    for thread in threads:
        thread.start()
    core.histogram(symbols, 256, out)
    for thread in threads:
        thread.join()
    assert out.sum() == symbols.size
