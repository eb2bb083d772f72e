"""The scan over rectangles: against plain loops, independent of what else is scanned, exact at the edges."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_forensics.cf.features.codelength import Coded, code
from model_forensics.cf.features.evidence import Grid, Rectangle, _shrink, _whiten, gather
from model_forensics.cf.features.scan import (
    Found,
    Scan,
    _coarse,
    _Images,
    _log_likelihood,
    scan,
    windows_of,
)
from model_forensics.cf.moments import ChannelModel, Moments, fit_channels
from model_forensics.cf.planes import Entries, Layout, Selection, select
from model_forensics.types import SiteInfo

LATER = 1  # position class


def layout_of(*widths: int) -> Layout:
    return Layout(
        tuple(
            SiteInfo(name=f"L{n}.mlp", module=f"m{n}", kind="mlp", layer=n, features=width, dtype="float32")
            for n, width in enumerate(widths)
        )
    )


def entries_of(arrays: list[np.ndarray | None], layout: Layout) -> Entries:
    """Dense [tokens, features] arrays, None for a site that was not recorded, as entries."""
    blank = [np.zeros((0, int(width)), dtype=np.float32) for width in layout.features]
    filled = [blank[n] if array is None else array for n, array in enumerate(arrays)]
    values = np.concatenate([array.ravel() for array in filled]).astype(np.float32)
    return Entries(
        values=values,
        channel=np.concatenate([
            np.tile(np.arange(array.shape[1]), len(array)) + layout.offsets[n] for n, array in enumerate(filled)
        ]),
        row=np.concatenate([np.repeat(np.arange(len(array)), array.shape[1]) for array in filled]),
        starts=np.concatenate([[0], np.cumsum([array.size for array in filled])]).astype(np.int64),
        rows=np.array([len(array) for array in filled], dtype=np.int64),
        finite=np.isfinite(values),
    )  # fmt: skip


def benign(rng: np.random.Generator, tokens: int, width: int) -> np.ndarray:
    """Channels of fixed scales and offsets, tokens that are louder or quieter."""
    fixed = np.random.default_rng(width)
    scale, offset = np.exp(fixed.normal(size=width)), fixed.normal(size=width)
    loud = np.exp(0.3 * rng.normal(size=(tokens, 1)))
    return ((rng.normal(size=(tokens, width)) + offset) * scale * loud).astype(np.float32)


def model_of(layout: Layout, tokens: int = 12, samples: int = 30, position_class: int = LATER) -> ChannelModel:
    moments = Moments.empty(layout)
    rng = np.random.default_rng(5)
    for _ in range(samples):
        arrays: list[np.ndarray | None] = [benign(rng, tokens, int(width)) for width in layout.features]
        moments.add(select(entries_of(arrays, layout), position_class))
    return fit_channels(moments, layout)


def measured(
    arrays: list[np.ndarray | None], layout: Layout, model: ChannelModel, position_class: int = LATER
) -> tuple[Selection, Coded]:
    selection = select(entries_of(arrays, layout), position_class)
    return selection, code(selection, model)


def run_scan(arrays: list[np.ndarray | None], layout: Layout, model: ChannelModel) -> Scan:
    return scan(*measured(arrays, layout, model), model, layout)


def overlap(found: Rectangle, truth: Rectangle) -> float:
    """Intersection over union."""
    tokens = max(0, min(found[1], truth[1]) - max(found[0], truth[0]))
    channels = max(0, min(found[3], truth[3]) - max(found[2], truth[2]))
    sizes = [(r[1] - r[0]) * (r[3] - r[2]) for r in (found, truth)]
    return tokens * channels / (sum(sizes) - tokens * channels)


def best_window(array: np.ndarray, layout: Layout, model: ChannelModel) -> Found:
    return windows_of(*measured([array], layout, model), model, layout, 0, 1)[0]


FAULTS = {
    "louder": lambda part: part * np.float32(4),
    "quieter": lambda part: part * np.float32(0.1),
    "absent": np.zeros_like,
    "still": lambda part: np.repeat(part[:1], len(part), axis=0),
    "one sign": lambda part: np.abs(part) * np.float32(2.5),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("truth", [Rectangle(3, 11, 37, 101), Rectangle(0, 24, 130, 160), Rectangle(7, 9, 20, 90)])
def test_a_planted_rectangle_is_found(fault: str, truth: Rectangle) -> None:
    layout = layout_of(180)
    array = benign(np.random.default_rng(17), 25, 180)
    part = np.s_[truth[0] + 1 : truth[1] + 1, truth[2] : truth[3]]
    array[part] = FAULTS[fault](array[part])
    found = best_window(array, layout, model_of(layout))
    least = 0.45 if fault == "still" and truth.token_stop - truth.token_start == 2 else 0.75
    assert overlap(found.rectangle, truth) > least
    assert found.score > 2
    assert found.bits > 20


def test_edges_are_exact_to_a_token_and_a_channel_though_bins_are_wide() -> None:
    layout = layout_of(1000)
    array = benign(np.random.default_rng(3), 131, 1000)
    array[42:78, 333:501] = 0
    found = best_window(array, layout, model_of(layout))
    assert found.rectangle == Rectangle(41, 77, 333, 501)


def test_one_token_gives_a_range_of_channels() -> None:
    layout = layout_of(600)
    model = model_of(layout, tokens=1, position_class=0)
    array = benign(np.random.default_rng(8), 1, 600)
    array[:, 211:290] *= 6
    windows = windows_of(*measured([array], layout, model, 0), model, layout, 0, 3)
    assert windows[0].rectangle[:2] == (0, 1)
    assert overlap(windows[0].rectangle, Rectangle(0, 1, 211, 290)) > 0.8


def test_the_level_of_a_single_token_is_no_evidence() -> None:
    layout = layout_of(600)
    model = model_of(layout, tokens=1, position_class=0)
    array = benign(np.random.default_rng(8), 1, 600)
    scores = [scan(*measured([array * np.float32(by)], layout, model, 0), model, layout).score[0] for by in (1, 1.5)]
    assert scores[1] == pytest.approx(scores[0], abs=0.6)


def test_windows_of_a_site_do_not_overlap_and_come_best_first() -> None:
    layout = layout_of(180)
    array = benign(np.random.default_rng(17), 25, 180)
    array[3:8, 10:50] *= 6
    array[14:20, 90:150] = 0
    windows = windows_of(*measured([array], layout, model_of(layout)), model_of(layout), layout, 0, 3)
    assert len(windows) >= 2
    assert [item.score for item in windows] == sorted((item.score for item in windows), reverse=True)
    for one, other in itertools.combinations([item.rectangle for item in windows], 2):
        assert overlap(one, other) == 0
    found = {max((overlap(item.rectangle, truth), n) for n, item in enumerate(windows)) for truth in (
        Rectangle(2, 7, 10, 50), Rectangle(13, 19, 90, 150))}  # fmt: skip
    assert all(value > 0.75 for value, _ in found)


@pytest.mark.parametrize("fault", ["louder", "absent", "still"])
def test_what_a_fault_stands_out_from_is_not_shown_as_a_second_one(fault: str) -> None:
    layout = layout_of(180)
    model = model_of(layout)
    array = benign(np.random.default_rng(17), 25, 180)
    array[6:17, 40:110] = FAULTS[fault](array[6:17, 40:110])
    first, *others = windows_of(*measured([array], layout, model), model, layout, 0, 3)
    assert overlap(first.rectangle, Rectangle(5, 16, 40, 110)) > 0.75
    assert all(item.score < first.score / 2 and item.score < 4 for item in others)


def test_benign_recordings_score_about_alike_whatever_their_size() -> None:
    medians = []
    for width, tokens in ((16, 40), (64, 12), (300, 30), (300, 100)):
        layout = layout_of(width)
        model = model_of(layout)
        rng = np.random.default_rng(width + tokens)
        medians.append(np.median([run_scan([benign(rng, tokens, width)], layout, model).score[0] for _ in range(12)]))
    assert max(medians) < 3
    assert min(medians) > 0


def test_a_site_is_judged_the_same_whatever_is_scanned_beside_it() -> None:
    layout = layout_of(50, 90, 7)
    model = model_of(layout)
    rng = np.random.default_rng(2)
    arrays: list[np.ndarray | None] = [benign(rng, 20, 50), benign(rng, 20, 90), benign(rng, 9, 7)]
    whole = run_scan(arrays, layout, model)
    holes = arrays[0].copy()  # type: ignore[union-attr]
    holes[4:9, 3:30] = np.nan
    for changed in ([None, *arrays[1:]], [holes, *arrays[1:]]):
        other = run_scan(changed, layout, model)
        assert np.array_equal(other.score[1:], whole.score[1:])
        assert np.array_equal(other.corners[1:], whole.corners[1:])
    assert run_scan([None, *arrays[1:]], layout, model).best(0) is None


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 70), st.integers(1, 90), st.integers(0, 2**32 - 1))
def test_rectangles_lie_inside_the_site(tokens: int, width: int, seed: int) -> None:
    layout = layout_of(width)
    model = model_of(layout, samples=6)
    rng = np.random.default_rng(seed)
    array = benign(rng, tokens + 1, width)
    array[rng.random(array.shape) < 0.1] = 0
    for found in windows_of(*measured([array], layout, model), model, layout, 0, 3):
        top, bottom, left, right = found.rectangle
        assert 0 <= top < bottom <= tokens
        assert 0 <= left < right <= width
        assert np.isfinite(found.score)
        assert found.bits >= 0


def images_of(array: np.ndarray, layout: Layout, model: ChannelModel) -> tuple[_Images, list, Grid]:  # type: ignore[type-arg]
    selection, coded = measured([array], layout, model)
    grid = _coarse(selection, slice(0, selection.values.size), np.array([0]), model, layout)
    planes = gather(selection, slice(0, selection.values.size), coded.symbols, model, grid)
    return _Images(planes, grid), planes, grid


def test_cumulative_sums_give_what_plain_sums_give() -> None:
    layout = layout_of(23)
    array = benign(np.random.default_rng(1), 10, 23)
    array[3:6, 4:9] = 0
    images, planes, grid = images_of(array, layout, model_of(layout))
    assert len(planes) == 5
    score, bits, corners = images.best(())
    best = Rectangle(*corners[0].tolist())
    places = [np.array([int(np.searchsorted(grid.tokens, place))]) for place in best[:2]]
    places += [np.array([int(np.searchsorted(grid.channels[0], place))]) for place in best[2:]]
    top, bottom, left, right = (int(place[0]) for place in places)
    expected = 0.0
    for plane in planes:
        first = top + plane.steps
        inside = np.s_[0, first:bottom, left:right]
        variance, rows, columns = plane.variance[0], np.s_[first:bottom], np.s_[left:right]
        part = variance[inside[1:]].sum()
        kept = (
            1
            - plane.row[0] * part / variance[rows].sum()
            - plane.column[0] * part / variance[:, columns].sum()
            + plane.both[0] * part / variance.sum()
        )
        expected += float(_log_likelihood(plane.total[inside].sum(), max(part * kept, 1e-9), plane.bound))
    assert bits[0] == pytest.approx(expected / np.log(2), rel=1e-9)
    size = (best.token_stop - best.token_start) * (best.channel_stop - best.channel_start)
    chance = np.sqrt(2 * (1 + np.log(9 * 23 / size)))
    assert score[0] == pytest.approx(np.sqrt(2 * expected) - chance, rel=1e-9)


def test_climbing_from_the_best_rectangle_never_loses() -> None:
    layout = layout_of(160)
    model = model_of(layout)
    for seed in range(6):
        images, _, _ = images_of(benign(np.random.default_rng(seed), 30, 160), layout, model)
        _, bits, corners = images.best(())
        start = Rectangle(*corners[0].tolist())
        moved, climbed = images.climb(start, ())
        again, same = images.climb(moved, ())
        assert (again, same) == (moved, climbed)
        assert climbed >= bits[0] * (1 - 1e-9) or moved != start


def test_two_way_effects_are_those_of_generalised_least_squares() -> None:
    tokens, cells = 7, 5
    rng = np.random.default_rng(4)
    total = 2 * rng.normal(size=(tokens, 1)) + rng.normal(size=(1, cells)) + rng.normal(size=(tokens, cells))
    plane, _ = _whiten(total[None], np.ones((1, tokens, cells)))
    between_rows = plane.row[0] / (1 - plane.row[0]) / cells
    between_columns = plane.column[0] / (1 - plane.column[0]) / tokens
    assert between_rows > 1
    assert between_columns > 0.1
    covariance = (
        np.eye(tokens * cells)
        + between_rows * np.kron(np.eye(tokens), np.ones((cells, cells)))
        + between_columns * np.kron(np.ones((tokens, tokens)), np.eye(cells))
    )
    precision = np.linalg.inv(covariance)
    assert plane.total[0].ravel() == pytest.approx(precision @ total.ravel())
    inside = np.zeros((tokens, cells))
    inside[1:4, 2:5] = 1
    wide, long = 3 / cells, 3 / tokens
    kept = 1 - plane.row[0] * wide - plane.column[0] * long + plane.both[0] * wide * long
    assert 9 * kept == pytest.approx(inside.ravel() @ precision @ inside.ravel())


def test_equal_effects_are_taken_for_chance() -> None:
    share, effect = _shrink(np.full((1, 6), 3.0), np.full((1, 6), 2.0))
    assert share[0] == 0
    assert effect[0] == pytest.approx(1.5)


def test_bennetts_exponent_is_poissons_for_rare_events_and_normal_for_small_shifts() -> None:
    expected, seen = 0.01, 6.0
    poisson = seen * np.log(seen / expected) - (seen - expected)
    assert _log_likelihood(np.array([seen - expected]), np.array([expected]), 1.0)[0] == pytest.approx(poisson)
    small = _log_likelihood(np.array([0.5]), np.array([400.0]), 1.0)[0]
    assert small == pytest.approx(_log_likelihood(np.array([0.5]), np.array([400.0]), 0.0)[0], rel=0.01)
