"""What compression forensics promises: calibrated scores, hard flags, onset, refusals, honest nulls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy import CONFIG, LAYERS, MODEL, MemoryRecording, recording, toy_run

from model_forensics.cf import Baseline, analyze, fit_baseline
from model_forensics.errors import BaselineError, UsageError
from model_forensics.types import Sparse


@pytest.fixture(scope="module")
def baseline() -> Baseline:
    return fit_baseline([recording([seed], name=f"b{seed}") for seed in range(24)], CONFIG)


def test_a_clean_recording_has_no_onset_and_a_low_score(baseline: Baseline) -> None:
    results = [analyze(recording([seed]), baseline, CONFIG) for seed in range(100, 130)]
    scores = [result.anomaly_score for result in results]
    assert np.mean([score is not None and score > 0.8 for score in scores]) <= 0.1
    assert np.mean([result.onset is not None for result in results]) <= 0.17
    p = np.array([row.p_value for result in results for row in result.metrics], dtype=float)
    assert np.mean(p <= 0.0228) <= 0.06


@pytest.mark.parametrize("site", [f"L{layer}.{kind}" for layer in range(LAYERS) for kind in ("attn", "mlp")])
def test_the_damaged_component_is_the_onset(baseline: Baseline, site: str) -> None:
    result = analyze(recording([200, 201, 202], damaged=site), baseline, CONFIG)
    assert result.onset is not None
    assert result.onset.site == site
    assert result.anomaly_score is not None
    assert result.anomaly_score > 0.8
    assert next(row for row in result.metrics if row.site == site).is_anomalous


def test_damage_at_the_first_site_is_called_input(baseline: Baseline) -> None:
    run = toy_run(300)
    run["embed"] = run["embed"][:, ::-1] * np.float32(3)
    result = analyze(MemoryRecording("i", [run], ["x"]), baseline, CONFIG)
    assert result.onset is not None
    assert result.onset.site == "input"


def test_nan_is_a_hard_flag_and_poisons_nothing_else(baseline: Baseline) -> None:
    clean, broken = toy_run(301), toy_run(301)
    broken["L2.mlp"][3, 7] = np.nan
    broken["L2.mlp"][4, 1] = np.inf
    whole = {row.site: row for row in analyze(MemoryRecording("i", [clean], ["x"]), baseline, CONFIG).metrics}
    result = analyze(MemoryRecording("i", [broken], ["x"]), baseline, CONFIG)
    row = next(row for row in result.metrics if row.site == "L2.mlp")
    assert row.is_anomalous
    assert (row.integrity.nan, row.integrity.inf, row.integrity.first_nonfinite) == (1, 1, (0, 3, 7))
    assert row.token_profile is not None
    assert row.token_profile[3] is None
    assert result.strongest is not None
    assert result.strongest.site == "L2.mlp"
    for other in result.metrics:
        if other.site not in ("L2.mlp", "L2.resid", "L3.attn", "L3.mlp", "L3.resid"):
            assert other.rank_score == whole[other.site].rank_score


def test_without_a_baseline_scores_are_null_and_integrity_is_there() -> None:
    result = analyze(recording([1]), None, CONFIG)
    assert result.anomaly_score is None
    assert result.onset is None
    assert any("no baseline" in warning for warning in result.warnings)
    for row in result.metrics:
        assert row.anomaly_score is None
        assert row.integrity.values > 0
        assert row.methods["zlib"].bits is not None


def test_few_groups_rank_only() -> None:
    few = fit_baseline([recording(range(4))], CONFIG)
    result = analyze(recording([50], damaged="L1.mlp"), few, CONFIG)
    assert any("insufficient baseline" in warning for warning in result.warnings)
    assert all(row.p_value is None and row.anomaly_score is None for row in result.metrics)
    assert all(row.rank_score is not None for row in result.metrics)
    assert result.anomaly_score is None


def test_samples_of_one_group_count_as_one() -> None:
    same = MemoryRecording("r", [toy_run(seed) for seed in range(8)], ["one"] * 8)
    fitted = fit_baseline([same], CONFIG)
    assert fitted.groups == 1
    assert all(row.not_judged for row in analyze(recording([50]), fitted, CONFIG).metrics)


def test_save_and_load_give_the_very_same_result(baseline: Baseline, tmp_path: Path) -> None:
    baseline.save(tmp_path / "b")
    loaded = Baseline.load(tmp_path / "b")
    assert loaded.baseline_id == baseline.baseline_id
    incident = recording([60], damaged="L1.attn")
    assert analyze(incident, loaded, CONFIG) == analyze(incident, baseline, CONFIG)
    with pytest.raises(UsageError):
        baseline.save(tmp_path / "b")


@pytest.mark.parametrize("file", ["baseline.json", "baseline.safetensors"])
def test_an_altered_baseline_is_refused(baseline: Baseline, tmp_path: Path, file: str) -> None:
    baseline.save(tmp_path / "b")
    path = tmp_path / "b" / file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(BaselineError):
        Baseline.load(tmp_path / "b")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BaselineError):
        Baseline.load(tmp_path)


@pytest.mark.parametrize(
    "change", [{"architecture": "Other"}, {"layers": 9}, {"tokenizer_digest": "sha256:u"}, {"family": "bert"}]
)
def test_another_model_is_refused(baseline: Baseline, change: dict[str, Any]) -> None:
    other = recording([1])
    other.model = MODEL.model_copy(update=change)
    with pytest.raises(BaselineError):
        analyze(other, baseline, CONFIG)


def test_another_shape_is_refused(baseline: Baseline) -> None:
    run = toy_run(1)
    run["L1.mlp"] = run["L1.mlp"][:, :-1]
    with pytest.raises(BaselineError, match="features"):
        analyze(MemoryRecording("i", [run], ["x"]), baseline, CONFIG)


def test_no_recording_is_refused() -> None:
    with pytest.raises(BaselineError):
        fit_baseline([], CONFIG)


def test_other_weights_are_accepted_with_the_difference_named(baseline: Baseline) -> None:
    other = recording([1])
    other.model = MODEL.model_copy(update={"weights_digest": "sha256:b"})
    result = analyze(other, baseline, CONFIG)
    assert result.version_difference is not None
    assert result.version_difference.recording_digest == "sha256:b"


def test_unknown_and_constant_sites_say_why(baseline: Baseline) -> None:
    run = toy_run(1) | {"L9.mlp": np.ones((3, 4), dtype=np.float32)}
    rows = {row.site: row for row in analyze(MemoryRecording("i", [run], ["x"]), baseline, CONFIG).metrics}
    assert rows["L9.mlp"].not_judged == "the baseline lacks this site"
    constant = [
        MemoryRecording(f"b{s}", [toy_run(s) | {"final_norm": np.full((1, 4), 2, dtype=np.float32)}], [f"g{s}"])
        for s in range(6)
    ]
    result = analyze(constant[0], fit_baseline(constant, CONFIG), CONFIG)
    assert "constant" in (next(row for row in result.metrics if row.site == "final_norm").not_judged or "")


def test_sparse_recordings_tell_absent_from_zero() -> None:
    def sparse(seed: int, shifted: bool = False) -> MemoryRecording:
        weights = np.random.default_rng(3)
        runs = {}
        for layer in range(4):
            scale = np.exp(2 * weights.normal(size=400))
            values = (np.random.default_rng([seed, layer]).normal(size=400) + 1) * scale
            chosen = np.sort(np.argsort(-np.abs(values))[:40])
            stored = values[chosen].astype(np.float32)
            if shifted and layer == 2:
                chosen = np.sort((chosen + 1) % 400)
            runs[f"L{layer}.mlp"] = Sparse(stored, chosen.astype(np.int64), (1, 400))
        return MemoryRecording(f"s{seed}", [runs], [f"g{seed}"])

    fitted = fit_baseline([sparse(seed) for seed in range(20)], CONFIG)
    result = analyze(sparse(99, shifted=True), fitted, CONFIG)
    assert result.strongest is not None
    assert result.strongest.site == "L2.mlp"
    assert all(row.integrity.values == 40 and row.integrity.zero_fraction == 0 for row in result.metrics)


def test_the_worst_window_points_at_the_damaged_block(baseline: Baseline) -> None:
    run = toy_run(302)
    tokens = len(run["L1.mlp"])
    run["L1.mlp"] = run["L1.mlp"].copy()
    run["L1.mlp"][1:, 12:18] *= np.float32(40)
    row = next(r for r in analyze(MemoryRecording("i", [run], ["x"]), baseline, CONFIG).metrics if r.site == "L1.mlp")
    window = row.worst_windows[0]
    assert window.sample == 0
    assert 1 <= window.token_start < window.token_stop <= tokens
    assert window.channel_start < 18
    assert window.channel_stop > 12


def test_the_choice_of_samples_is_balanced_and_does_not_depend_on_order() -> None:
    many = MemoryRecording("many", [toy_run(seed) for seed in range(10)], ["a"] * 8 + ["b", "c"])
    other = recording([70], name="other")
    limited = CONFIG.model_copy(update={"baseline_samples": 4})
    one, two = fit_baseline([many, other], limited), fit_baseline([other, many], limited)
    assert one.groups == 4
    assert sorted(one.group_names) == sorted(two.group_names)
    assert np.array_equal(one.moments[0].count, two.moments[0].count)


def test_recordings_that_lack_some_sites_still_count(baseline: Baseline) -> None:
    runs = []
    for seed in range(12):
        run = toy_run(seed)
        if seed % 2:
            del run["L3.resid"]
        runs.append(MemoryRecording(f"b{seed}", [run], [f"g{seed}"]))
    result = analyze(recording([90]), fit_baseline(runs, CONFIG), CONFIG)
    assert all(row.not_judged is None for row in result.metrics)
