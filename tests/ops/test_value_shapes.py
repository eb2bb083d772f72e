"""Shapes of values: every backend counts as the reference does, and the reference by the definition."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from model_forensics import ops
from model_forensics.errors import UsageError
from tests.ops.cases import core_with, instruction_sets, values

LEVELS = (0.0, 0.1, 0.5, 0.9, 1.0)
COUNTS = [0, 1, 2, 63, 64, 65, 0, 300, 1000, 5]


def sites(kind: str) -> tuple[np.ndarray, np.ndarray]:
    starts = np.cumsum([0, *COUNTS]).astype(np.int64)
    x = values((int(starts[-1]),), seed=4)
    x = np.where(np.isnan(x), np.float32(1), x)
    if kind == "bfloat16":
        x = (x.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    elif kind == "few":
        x = np.sign(x) * np.float32(0.5)
    return x.astype(np.float32), starts


def equal(got: ops.ValueShapes, expected: ops.ValueShapes) -> None:
    for name, mine, theirs in zip(ops.ValueShapes._fields, got, expected, strict=True):
        np.testing.assert_array_equal(mine, theirs, err_msg=name)


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "few"])
@pytest.mark.parametrize("most", [1, 64, 65, 1 << 16])
def test_every_backend_counts_as_the_reference(backend: str, kind: str, most: int) -> None:
    x, starts = sites(kind)
    expected = ops.value_shapes(x, starts, most=most, levels=LEVELS, backend="numpy")
    equal(ops.value_shapes(x, starts, most=most, levels=LEVELS, backend=backend), expected)
    for isa in instruction_sets():
        for threads in (1, 3):
            with core_with(isa, threads):
                equal(ops.value_shapes(x, starts, most=most, levels=LEVELS, backend="cpp"), expected)


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "few"])
def test_the_reference_is_the_definition(kind: str) -> None:
    x, starts = sites(kind)
    got = ops.value_shapes(x, starts, most=100, levels=LEVELS, backend="numpy")
    for site, count in enumerate(COUNTS):
        stride = -(-count // 100) or 1
        mine = x[starts[site] : starts[site + 1]][::stride]
        patterns = Counter(mine.view(np.uint32).tolist())
        assert got.looked_at[site] == mine.size <= 100
        assert got.distinct[site] == len(patterns)
        assert got.most_frequent[site] == max(patterns.values(), default=0)
        if not count:
            assert np.isnan(got.quantiles[site]).all()
            continue
        magnitude = np.sort(np.abs(mine))
        assert got.saturated[site] == (magnitude == magnitude[-1]).sum()
        assert got.low_mantissa[site] == sum(pattern & 0xFFFF != 0 for pattern in mine.view(np.uint32).tolist())
        assert got.quantiles[site].tolist() == [magnitude[int(level * (mine.size - 1))] for level in LEVELS]


def test_no_sites_and_no_levels(backend: str) -> None:
    nothing = np.zeros(0, np.float32)
    got = ops.value_shapes(nothing, np.zeros(1, np.int64), most=9, levels=(), backend=backend)
    assert got.distinct.shape == (0,)
    assert got.quantiles.shape == (0, 0)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"x": np.array([1, np.nan], np.float32)}, "NaN"),
        ({"x": np.zeros(2)}, "float32"),
        ({"starts": np.array([0, 3])}, "offsets"),
        ({"starts": np.array([0, 2, 1, 2])}, "offsets"),
        ({"most": 0}, "most"),
        ({"levels": (0.5, 1.5)}, "levels"),
    ],
)
def test_wrong_arguments_say_what_is_accepted(backend: str, change: dict[str, object], says: str) -> None:
    right: dict[str, object] = {"x": np.ones(2, np.float32), "starts": np.array([0, 2]), "most": 4, "levels": (0.5,)}
    arguments = {**right, **change}
    with pytest.raises(UsageError, match=says):
        ops.value_shapes(arguments.pop("x"), arguments.pop("starts"), **arguments, backend=backend)  # type: ignore[arg-type]
