"""Measuring samples: the plain formulas' numbers in few calls, and nothing read for nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from scipy import stats

from model_forensics.bundle import MemoryRecording
from model_forensics.cf import analyze, fit_baseline, fitting, moments
from model_forensics.cf.features import codelength
from model_forensics.cf.features.codelength import code
from model_forensics.cf.features.shape import shape_columns
from model_forensics.cf.integrity import IntegrityCounts
from model_forensics.cf.moments import Moments, fit_channels
from model_forensics.cf.planes import Layout, Selection, read_entries, select
from model_forensics.config import ForensicsConfig
from model_forensics.ops import _dispatch
from model_forensics.types import Sample, SiteInfo, Sparse

CONFIG = ForensicsConfig(compression_methods=("arithmetic",), entropy_window=16)


def recording(seed: int, sites: int = 6, tokens: int = 5, strange: bool = False) -> MemoryRecording:
    """Sites of growing width, every other one sparse; `strange`: zeros, NaN and Inf among the values."""
    random = np.random.default_rng(seed)
    infos, activations = {}, {}
    for number in range(sites):
        name, width = f"site{number}", 20 + 7 * number
        values = (random.standard_normal((tokens, width)) * np.exp2(number - 3)).astype(np.float32)
        if strange:
            values[random.random(values.shape) < 0.1] = 0
            values[0, :2] = (np.nan, np.inf)
        sparse = number % 2 == 1
        infos[name] = SiteInfo(
            name=name, module=name, kind="module", layer=None, features=width, dtype="float32",
            layout="sparse" if sparse else "dense",
        )  # fmt: skip
        activations[name] = [thinned(values, random) if sparse else values]
    sample = Sample(sample_id="s", group=f"g{seed}", call=0, row=0, tokens=tokens)
    return MemoryRecording([sample], infos, activations, kind="benign", bundle_id=f"b{seed}")


def thinned(values: np.ndarray, random: np.random.Generator) -> Sparse:
    kept = np.flatnonzero(random.random(values.size) < 0.4)
    return Sparse(values.ravel()[kept], kept, values.shape)


def layout_of(one: MemoryRecording) -> Layout:
    return Layout(tuple(one.sites.values()))


def fitted(layout: Layout) -> moments.ChannelModel:
    total = Moments.empty(layout)
    for seed in range(10, 16):
        total.add(select(read_entries(recording(seed), 0, layout), 1))
    return fit_channels(total, layout)


def per_site(chosen: Selection, weights: Any = None) -> np.ndarray:
    return np.bincount(chosen.site, weights=weights, minlength=chosen.rows.size)


def test_codes_are_those_of_the_plain_formulas() -> None:
    layout = layout_of(recording(0))
    model = fitted(layout)
    chosen = select(read_entries(recording(1, strange=True), 0, layout), 1)
    coded, channel, count = code(chosen, model), chosen.channel, per_site(chosen)
    location, scale = model.location[channel].astype(float), model.scale[channel].astype(float)
    degrees = moments.DEGREE_CLASSES[model.degrees[channel]]
    residual = (np.log2(np.abs(chosen.values.astype(float))) - location) / scale
    edge = np.clip(np.floor(4 * residual + 16), 0, 31) / 4 - 4
    low, high = np.where(edge == -4, -np.inf, edge), np.where(edge == 3.75, np.inf, edge + 0.25)
    magnitude = -np.log2(stats.t.cdf(high, degrees) - stats.t.cdf(low, degrees))
    up = model.positive[channel].astype(float)
    entropy = -up * np.log2(up) - (1 - up) * np.log2(1 - up)
    sign = -np.log2(np.where(chosen.values > 0, up, 1 - up))
    weight = 1 / np.maximum(scale, 0.02) ** 2
    drift = per_site(chosen, weight * residual * scale) / per_site(chosen, weight)
    columns = coded.columns
    np.testing.assert_allclose(columns["sign"], per_site(chosen, sign - entropy) / count, rtol=1e-6)
    np.testing.assert_allclose(columns["scale"], drift, rtol=1e-6)
    centred = residual - drift[chosen.site] / scale
    spread = np.log2(per_site(chosen, np.minimum(centred**2, 100)) / count + 0.01)
    np.testing.assert_allclose(columns["spread"], spread, rtol=1e-6)
    absent = coded.bits - per_site(chosen, magnitude + np.log2(0.25 * scale * 128) + sign)
    presence = per_site(chosen, model.presence_gain[channel]) + chosen.rows * model.absent_total
    np.testing.assert_allclose(absent, presence, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(columns["presence"], presence / chosen.rows - model.presence_expected, rtol=1e-5)
    assert columns["magnitude"] == pytest.approx(
        (per_site(chosen, coded.excess) - per_site(chosen, sign - entropy)) / count
    )
    assert len(coded.excess) == len(coded.symbols) == len(coded.presence_gain) == chosen.values.size


def test_one_token_is_selected_without_a_copy_and_as_any_other() -> None:
    one = recording(3, tokens=1)
    entries = read_entries(one, 0, layout_of(one))
    chosen = select(entries, 0)
    assert chosen.values is entries.values
    assert chosen.shapes is entries.shapes
    assert select(entries, 1).values.size == 0
    longer = read_entries(recording(3, tokens=2), 0, layout_of(one))
    inside = longer.row == 0
    again = select(longer, 0)
    np.testing.assert_array_equal(again.values, longer.values[inside])
    np.testing.assert_array_equal(np.diff(again.starts), np.bincount(again.site, minlength=6))
    np.testing.assert_array_equal(again.recorded, np.bincount(longer.site[inside], minlength=6))


def test_zeros_and_what_is_not_finite_are_left_out() -> None:
    strange = recording(4, strange=True)
    layout = layout_of(strange)
    entries = read_entries(strange, 0, layout)
    chosen = select(entries, 1)
    assert np.isfinite(chosen.values).all()
    assert chosen.values.all()
    inside = entries.row > 0
    np.testing.assert_array_equal(chosen.zeros, np.bincount(entries.site[inside & (entries.values == 0)], minlength=6))
    columns = shape_columns(chosen)
    counts = IntegrityCounts.empty(layout, np.ones(6, dtype=bool), several=True)
    counts.add(entries, 0, layout)
    told = counts.results(layout)
    for site in range(6):
        mine = chosen.values[chosen.site == site]
        assert columns["distinct"][site] == np.unique(mine).size / mine.size
        assert columns["repeated"][site] == Counter(mine.tolist()).most_common(1)[0][1] / mine.size
        magnitude = np.sort(np.abs(mine))
        at = {level: magnitude[int(level * (mine.size - 1))] for level in (0.1, 0.5, 1.0)}
        assert columns["top"][site] == pytest.approx(np.log2(at[1.0] / at[0.5]), rel=1e-5)
        assert columns["lower"][site] == pytest.approx(np.log2(at[0.1] / at[0.5]), rel=1e-5)
        everything = entries.values[(entries.site == site) & entries.finite]
        assert told[site]["distinct_fraction"] == pytest.approx(
            np.unique(everything.view(np.uint32)).size / everything.size
        )


def test_bits_of_the_adaptive_code_are_those_of_its_predictions_however_many_there_are() -> None:
    symbols = [3, 3, 0, 31, 3]
    seen = np.zeros(moments.LEVELS)
    bits = 0.0
    for number, symbol in enumerate(symbols):
        bits -= np.log2((seen[symbol] + 0.5) / (number + 0.5 * moments.LEVELS))
        seen[symbol] += 1
    few = np.bincount(symbols, minlength=moments.LEVELS)[None]
    many = np.full((1, moments.LEVELS), codelength.COUNTED)  # beyond what is looked up
    assert codelength._adaptive_bits(few)[0] == pytest.approx(bits)
    np.testing.assert_array_equal(
        codelength._adaptive_bits(np.concatenate([few, many]))[:1], codelength._adaptive_bits(few)
    )


@pytest.mark.parametrize("sites", [2, 40])
def test_calls_of_operations_do_not_grow_with_sites(sites: int, monkeypatch: pytest.MonkeyPatch) -> None:
    baseline = fit_baseline([recording(seed, sites) for seed in range(6)], CONFIG)
    calls: Counter[str] = Counter()
    record = _dispatch.record
    monkeypatch.setattr(_dispatch, "record", lambda choice: (calls.update([choice.operation]), record(choice)))
    analyze(recording(9, sites), baseline, CONFIG, windows=False)
    # Of both classes of tokens; later ones have a plane of evidence more.
    assert calls == {"predictive_bits": 2, "value_shapes": 3, "entropy_windows": 2, "bin_sums": 7}
    calls.clear()
    analyze(recording(9, sites, tokens=1), baseline, CONFIG, windows=False)
    assert calls == {"predictive_bits": 1, "value_shapes": 1, "entropy_windows": 1, "bin_sums": 3}


def test_what_is_not_kept_is_read_again_and_fits_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    recordings = [recording(seed, tokens=1) for seed in range(12)]
    reads: Counter[int] = Counter()
    read = fitting.read_entries
    monkeypatch.setattr(fitting, "read_entries", lambda one, *rest: (reads.update([id(one)]), read(one, *rest))[1])
    monkeypatch.setattr("model_forensics.cf.baseline.KEPT_BYTES", 1 << 10)
    kept = fit_baseline(recordings, CONFIG)
    assert Counter(reads.values()) == {1: 12}
    monkeypatch.setattr("model_forensics.cf.baseline.KEPT_BYTES", 0)
    for in_fold, times in (
        (1 << 10, {1: 1, 2: 11}),  # the first is kept anyway; the others: for the moments of all, and for their fold
        (0, {1: 1, 2: 10, 3: 1}),  # two folds of two: of the first, one is kept already, of the other one anyway
    ):
        monkeypatch.setattr(fitting, "KEPT_IN_FOLD", in_fold)
        reads.clear()
        again = fit_baseline(recordings, CONFIG)
        assert Counter(reads.values()) == times
        np.testing.assert_array_equal(again.tables, kept.tables)
        assert again.baseline_id == kept.baseline_id


def test_channels_are_fitted_the_same_in_parts_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    layout = layout_of(recording(0))
    parts = [Moments.empty(layout) for _ in range(2)]
    for seed in range(6):
        parts[seed % 2].add(select(read_entries(recording(seed), 0, layout), 1))
    both = Moments(*(getattr(parts[0], each.name) + getattr(parts[1], each.name) for each in fields(Moments)))
    models = []
    for at_once in (1, 60, 1 << 20):
        monkeypatch.setattr(moments, "CHANNELS_AT_ONCE", at_once)
        models.append(fit_channels(both, layout, without=parts[1]))
    models.append(fit_channels(both.minus(parts[1]), layout))
    for model in models[1:]:
        for each in fields(model):
            np.testing.assert_array_equal(getattr(model, each.name), getattr(models[0], each.name), err_msg=each.name)


def test_a_sign_that_never_changes_still_costs_something_finite() -> None:
    layout = layout_of(recording(0))
    total = Moments.empty(layout)
    total.count[:] = total.positive[:] = 1e9
    total.total[:], total.square[:], total.rows[:] = 0.0, 1e9, 1e9
    chosen = select(read_entries(recording(2), 0, layout), 1)
    assert (chosen.values < 0).any()
    assert np.isfinite(code(chosen, fit_channels(total, layout)).excess).all()


def test_a_ranking_needs_no_windows_and_scores_the_same() -> None:
    baseline = fit_baseline([recording(seed) for seed in range(8)], CONFIG)
    whole = analyze(recording(9, strange=True), baseline, CONFIG)
    ranked = analyze(recording(9, strange=True), baseline, CONFIG, windows=False)
    assert any(metric.worst_windows and metric.token_profile for metric in whole.metrics)
    assert not any(metric.worst_windows or metric.token_profile or metric.entropy_profile for metric in ranked.metrics)
    bare = {"worst_windows": (), "token_profile": None, "entropy_profile": None}
    assert ranked.metrics == tuple(metric.model_copy(update=bare) for metric in whole.metrics)
    assert (ranked.anomaly_score, ranked.onset) == (whole.anomaly_score, whole.onset)
