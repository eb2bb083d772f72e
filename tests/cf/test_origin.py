"""Baselines remember their sources; combined they are, bit for bit, what fitting everything at once gives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import CONFIG, MemoryRecording, bundle, recording, toy_run

from model_forensics.bundle.reader import Bundle
from model_forensics.cf import Baseline, analyze, fit_baseline
from model_forensics.errors import BaselineError

CAPPED = CONFIG.model_copy(update={"baseline_samples": 7})


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Bundle]:
    """Ragged ones: one to three samples, some groups in two bundles, some sites missing."""
    directory = tmp_path_factory.mktemp("bundles")
    made = []
    for number in range(8):
        runs = [toy_run(10 * number + sample) for sample in range(1 + number % 3)]
        for run in runs:
            if number % 2:
                del run["L1.resid"]
            if number == 3:
                del run["embed"]
        groups = [f"g{(number + sample) % 6}" for sample in range(len(runs))]
        made.append(bundle(directory / f"b{number}", MemoryRecording(f"b{number}", runs, groups)))
    return made


def assert_same(one: Baseline, other: Baseline) -> None:
    assert one.baseline_id == other.baseline_id
    assert one.tables.tobytes() == other.tables.tobytes()
    assert one.sites == other.sites
    assert one.sources == other.sources
    for mine, theirs in zip(one.moments, other.moments, strict=True):
        for name in ("count", "total", "square", "positive", "rows"):
            assert getattr(mine, name).tobytes() == getattr(theirs, name).tobytes()


@settings(max_examples=8)
@given(cut=st.integers(1, 7), order=st.permutations(range(8)), config=st.sampled_from([CONFIG, CAPPED]))
def test_combined_is_fitted_at_once(bundles: list[Bundle], cut: int, order: Sequence[int], config) -> None:
    shuffled = [bundles[number] for number in order]
    parts = [fit_baseline(shuffled[:cut], CAPPED), fit_baseline(shuffled[cut:], config)]
    assert_same(Baseline.combine(parts, shuffled[::-1], config), fit_baseline(bundles, config))


def test_new_recordings_are_added_to_what_was_saved(bundles: list[Bundle], tmp_path: Path) -> None:
    fit_baseline(bundles[:5], CONFIG).save(tmp_path / "old")
    extended = Baseline.combine([Baseline.load(tmp_path / "old")], bundles, CONFIG)
    at_once = fit_baseline(bundles, CONFIG)
    assert_same(extended, at_once)
    extended.save(tmp_path / "one")
    at_once.save(tmp_path / "two")
    for file in ("baseline.json", "baseline.safetensors"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_the_sources_say_what_was_chosen(bundles: list[Bundle]) -> None:
    fitted = fit_baseline(bundles, CAPPED)
    assert fitted.sources is not None
    assert [source.bundle_id for source in fitted.sources] == [f"b{number}" for number in range(8)]
    assert sum(len(source.chosen) for source in fitted.sources) == 7
    for source, stored in zip(fitted.sources, bundles, strict=True):
        assert source.content_digest == stored.content_digest
        assert source.samples == len(stored.samples)
        assert set(source.chosen) <= set(range(source.samples))
        assert source.places == (str(stored.path.resolve()),)


def test_a_bundle_that_is_there_twice_counts_once(bundles: list[Bundle], tmp_path: Path) -> None:
    copy = bundle(tmp_path / "b0", MemoryRecording("b0", [toy_run(0)], ["g0"]))
    assert copy.content_digest == bundles[0].content_digest
    alone = fit_baseline(bundles, CONFIG)
    assert_same(fit_baseline([*bundles, copy], CONFIG), alone)
    assert_same(fit_baseline([*bundles, *bundles], CONFIG), alone)
    assert_same(Baseline.combine([alone, fit_baseline(bundles[:3], CONFIG)], bundles, CONFIG), alone)


def test_other_content_under_the_same_id_is_refused(bundles: list[Bundle], tmp_path: Path) -> None:
    other = bundle(tmp_path / "b0", recording([99], name="b0"))
    with pytest.raises(BaselineError, match="bundle id 'b0'") as refused:
        fit_baseline([*bundles, other], CONFIG)
    assert refused.value.where == str(tmp_path / "b0")
    old = fit_baseline(bundles[:2], CONFIG)
    with pytest.raises(BaselineError, match="not the one") as refused:
        Baseline.combine([old], [other, bundles[1]], CONFIG)
    assert refused.value.where == str(tmp_path / "b0")
    with pytest.raises(BaselineError, match="not the one"):
        Baseline.combine([old, fit_baseline([other], CONFIG)], [], CONFIG)


def test_recordings_in_memory_need_ids_of_their_own() -> None:
    one = recording([1])
    assert fit_baseline([one, one, recording([2], name="other")], CONFIG).groups == 2
    with pytest.raises(BaselineError, match="bundle id 'r'"):
        fit_baseline([one, recording([2])], CONFIG)


def test_a_baseline_of_recordings_in_memory_cannot_be_combined(bundles: list[Bundle], tmp_path: Path) -> None:
    fitted = fit_baseline([bundles[0], recording([1])], CONFIG)
    assert fitted.sources is None
    fitted.save(tmp_path / "b")
    for part in (fitted, Baseline.load(tmp_path / "b")):
        with pytest.raises(BaselineError, match="in memory"):
            Baseline.combine([part], bundles, CONFIG)


def test_a_source_that_is_not_handed_in_is_named(bundles: list[Bundle]) -> None:
    with pytest.raises(BaselineError, match="'b4'") as refused:
        Baseline.combine([fit_baseline(bundles, CONFIG)], bundles[:4] + bundles[5:], CONFIG)
    assert refused.value.where == str(bundles[4].path.resolve())


def test_the_place_of_the_sources_changes_no_identity(bundles: list[Bundle], tmp_path: Path) -> None:
    fitted = fit_baseline(bundles, CONFIG)
    fitted.save(tmp_path / "deep" / "inside" / "b")
    loaded = Baseline.load(tmp_path / "deep" / "inside" / "b")
    assert loaded.baseline_id == fitted.baseline_id
    assert loaded.sources is not None
    assert loaded.sources[2].places == (str(bundles[2].path.resolve()),)
    assert analyze(recording([60]), loaded, CONFIG) == analyze(recording([60]), fitted, CONFIG)
    assert np.array_equal(loaded.judged_groups, fitted.judged_groups)
