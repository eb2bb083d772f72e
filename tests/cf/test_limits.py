"""Bad or incomplete input: a named error, or a limitation that the result names; never a silent zero."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from toy import CONFIG, MODEL, WIDTH, MemoryRecording, recording, toy_run

from model_forensics.cf import Baseline, analyze, fit_baseline
from model_forensics.config import Config
from model_forensics.errors import BaselineError, ConfigError
from model_forensics.types import ForensicsResult, SiteMetrics, Sparse

Run = dict[str, Any]


@pytest.fixture(scope="module")
def baseline() -> Baseline:
    return fit_baseline([recording([seed], name=f"b{seed}") for seed in range(12)], CONFIG)


def fit(*runs: Run, **changes: Any) -> Baseline:
    """Each run is a recording and a group of its own."""
    recordings = [MemoryRecording(f"b{number}", [run], [f"g{number}"]) for number, run in enumerate(runs)]
    return fit_baseline(recordings, CONFIG.model_copy(update=changes))


def judge(run: Run, fitted: Baseline) -> ForensicsResult:
    return analyze(MemoryRecording("i", [run], ["x"]), fitted, CONFIG)


def rows_of(result: ForensicsResult) -> dict[str, SiteMetrics]:
    return {row.site: row for row in result.metrics}


def with_site(seed: int, name: str, value: Any) -> Run:
    return toy_run(seed) | {name: value}


def top_entries(values: np.ndarray, count: int = 30) -> Sparse:
    """The largest ones, as a recorder keeps them that drops the others."""
    flat = values.reshape(-1)
    indices = np.sort(np.argsort(-np.abs(flat))[:count]).astype(np.int64)
    return Sparse(flat[indices], indices, values.shape)


# --- refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [{"architecture": "Other"}, {"width": 9}, {"tokenizer_digest": "sha256:u"}])
def test_benign_recordings_of_two_models(change: dict[str, Any]) -> None:
    recordings = [recording([seed], name=f"b{seed}") for seed in range(3)]
    recordings[2].model = MODEL.model_copy(update=change)
    with pytest.raises(BaselineError, match=next(iter(change)).split("_", maxsplit=1)[0]) as refused:
        fit_baseline(recordings, CONFIG)
    assert refused.value.where == "b2"


def test_a_tokenizer_that_the_first_recording_does_not_name() -> None:
    recordings = [recording([seed], name=f"b{seed}") for seed in range(3)]
    recordings[0].model = MODEL.model_copy(update={"tokenizer_digest": None})
    fitted = fit_baseline(recordings, CONFIG)
    other = recording([9])
    other.model = MODEL.model_copy(update={"tokenizer_digest": "sha256:u"})
    with pytest.raises(BaselineError, match="tokenizer"):
        analyze(other, fitted, CONFIG)
    recordings[2].model = other.model
    with pytest.raises(BaselineError, match="tokenizer"):
        fit_baseline(recordings, CONFIG)


def test_benign_recordings_of_two_shapes() -> None:
    with pytest.raises(BaselineError, match=r"L1\.mlp has 47 features") as refused:
        fit(toy_run(0), with_site(1, "L1.mlp", toy_run(1)["L1.mlp"][:, 1:]))
    assert refused.value.where == "b1"


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_a_baseline_without_a_single_value(value: float) -> None:
    with pytest.raises(BaselineError, match="no finite value other than zero"):
        fit(*({"L0.mlp": np.full((3, 4), value, dtype=np.float32)} for _ in range(6)))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("anomaly_threshold", 0),
        ("anomaly_threshold", -1.0),
        ("anomaly_threshold", float("nan")),
        ("compression_methods", ["lzma"]),
        ("compression_methods", []),
        ("entropy_window", 0),
        ("baseline_samples", 0),
    ],
)
def test_settings_out_of_range(key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=key):
        Config.from_dict({"modules": {"cf": {key: value}}})


# --- limitations that the result names -------------------------------------------------------------


def test_one_group(baseline: Baseline) -> None:
    result = judge(toy_run(50), fit(toy_run(0)))
    assert result.anomaly_score is None
    assert result.onset is None
    assert any("insufficient baseline: at most 1 groups" in warning for warning in result.warnings)
    for row in result.metrics:
        assert row.not_judged == "recorded in 1 baseline group; a p-value needs 5"
        assert row.p_value is row.anomaly_score is row.rank_score is None


def test_groups_that_share_no_site() -> None:
    names = list(toy_run(0))
    result = judge(toy_run(50), fit(*({names[seed]: toy_run(seed)[names[seed]]} for seed in range(8))))
    assert result.anomaly_score is None
    assert all(row.not_judged and row.p_value is None for row in result.metrics)
    assert any("insufficient baseline: at most 1 groups" in warning for warning in result.warnings)


def test_constant_site() -> None:
    two = np.full((1, 4), 2, dtype=np.float32)
    fitted = fit(*(with_site(seed, "final_norm", two) for seed in range(6)))
    for value in (two, 3 * two):
        row = rows_of(judge(with_site(50, "final_norm", value), fitted))["final_norm"]
        assert row.not_judged == "constant in the baseline, so there is no spread to judge by"
        assert row.p_value is None
    alone = fit(*({"final_norm": two} for _ in range(6)))
    result = judge({"final_norm": two}, alone)
    assert result.anomaly_score is None
    assert result.metrics[0].not_judged is not None


def test_nan_in_the_baseline() -> None:
    broken = np.full((4, WIDTH), np.nan, dtype=np.float32)
    once = fit(*(toy_run(seed) for seed in range(7)), with_site(7, "L1.mlp", broken))
    result = judge(toy_run(50), once)
    assert all(row.not_judged is None for row in result.metrics)
    assert any("NaN or Inf" in warning and "L1.mlp" in warning for warning in result.warnings)
    assert once.nonfinite == {"L1.mlp": broken.size}
    always = fit(*(with_site(seed, "L1.mlp", broken) for seed in range(8)))
    rows = rows_of(judge(toy_run(50), always))
    assert rows["L1.mlp"].not_judged == "benign runs hold no finite value other than zero here"
    assert all(row.p_value is not None for name, row in rows.items() if name != "L1.mlp")


def test_sites_that_the_baseline_lacks(baseline: Baseline) -> None:
    other = np.ones((3, 4), dtype=np.float32)
    rows = rows_of(judge(with_site(50, "L9.mlp", other), baseline))
    assert rows["L9.mlp"].not_judged == "the baseline lacks this site"
    assert rows["L9.mlp"].rank_score is None
    result = judge({"L9.mlp": other}, baseline)
    assert result.anomaly_score is None
    assert result.strongest is None


def test_sites_that_the_recording_lacks(baseline: Baseline) -> None:
    run = {name: values for name, values in toy_run(50).items() if not name.startswith("L2")}
    result = judge(run, baseline)
    assert set(rows_of(result)) == set(run)
    assert any(
        warning == "in the baseline but not recorded here, so not judged: 3 sites (L2.attn, L2.mlp, L2.resid)"
        for warning in result.warnings
    )
    empty = rows_of(judge(with_site(50, "L2.mlp", np.zeros((0, WIDTH), dtype=np.float32)), baseline))
    assert empty["L2.mlp"].not_judged == "not recorded in any sample"


def test_window_longer_than_the_recording(baseline: Baseline) -> None:
    run = {name: values[:1] for name, values in toy_run(50).items()}
    result = judge(run, baseline)
    assert any("entropy not scored" in warning and "13 sites" in warning for warning in result.warnings)
    assert all(row.methods["entropy"].bits is row.methods["entropy"].p_value is None for row in result.metrics)
    assert not any("entropy not scored" in warning for warning in judge(toy_run(50), baseline).warnings)


def test_later_tokens_that_benign_runs_do_not_have() -> None:
    first = fit(*({name: values[:1] for name, values in toy_run(seed).items()} for seed in range(12)))
    result = judge(toy_run(50), first)
    assert any(warning.startswith("later tokens not judged") for warning in result.warnings)
    for row in result.metrics:
        assert row.methods["zlib"].bits is row.methods["zlib"].p_value is row.methods["arithmetic"].bits is None
    assert sum(row.is_anomalous for row in result.metrics) <= 2


def test_dense_and_sparse_recordings_are_not_compared(baseline: Baseline) -> None:
    incident = judge(with_site(50, "L1.mlp", top_entries(toy_run(50)["L1.mlp"])), baseline)
    row = rows_of(incident)["L1.mlp"]
    assert row.not_judged == "recorded sparse, in the baseline dense, which cannot be compared"
    assert row.rank_score is row.p_value is None
    assert all(other.p_value is not None for name, other in rows_of(incident).items() if name != "L1.mlp")
    mixed = fit(
        *(toy_run(seed) for seed in range(6)),
        *(with_site(seed, "L1.mlp", top_entries(toy_run(seed)["L1.mlp"])) for seed in range(6, 12)),
    )
    result = judge(toy_run(50), mixed)
    row = rows_of(result)["L1.mlp"]
    assert row.not_judged == "recorded dense in some benign runs and sparse in others, which cannot be compared"
    assert all(other.p_value is not None for name, other in rows_of(result).items() if name != "L1.mlp")


def test_another_dtype_is_said(baseline: Baseline) -> None:
    other = recording([50], name="i")
    other.sites["L1.mlp"] = other.sites["L1.mlp"].model_copy(update={"dtype": "bfloat16"})
    rows = rows_of(analyze(other, baseline, CONFIG))
    assert rows["L1.mlp"].integrity.flags == ("recorded as bfloat16, in the baseline as float32",)
    assert rows["L1.mlp"].p_value == rows_of(judge(toy_run(50), baseline))["L1.mlp"].p_value
    assert rows["L2.mlp"].integrity.flags == ()


def test_groups_that_nobody_named() -> None:
    """Bundles without groups name them like their samples, which are alike in all bundles."""
    unnamed = [MemoryRecording(f"b{seed}", [toy_run(seed)], ["s0"]) for seed in range(6)]
    fitted = fit_baseline(unnamed, CONFIG)
    assert fitted.groups == 1
    assert any(warning.startswith("1 groups are in several benign bundles") for warning in fitted.warnings)
    named = [MemoryRecording(f"b{seed}", [toy_run(seed)], ["prompt"]) for seed in range(6)]
    assert fit_baseline(named, CONFIG).warnings == ()


# --- whatever is recorded ----------------------------------------------------------------------------

SITES = ("embed", "L0.attn", "L0.mlp", "L1.mlp")


@st.composite
def ragged_run(draw: st.DrawFn) -> Run:
    """Some of the sites, 0 to 6 tokens each, dense or sparse, now and then zero, constant or NaN."""
    run: Run = {}
    for name in draw(st.lists(st.sampled_from(SITES), min_size=1, unique=True)):
        rng = np.random.default_rng(draw(st.integers(0, 1000)))
        values = rng.normal(size=(draw(st.integers(0, 6)), 5)).astype(np.float32)
        special = draw(st.sampled_from(["", "", "", "zero", "constant", "nan", "some nan", "sparse"]))
        if special in ("zero", "constant", "nan"):
            values[:] = {"zero": 0, "constant": 3, "nan": np.nan}[special]
        elif special == "some nan":
            values[:1] = np.nan
        run[name] = top_entries(values, 7) if special == "sparse" else values
    return run


def stored(activation: np.ndarray | Sparse) -> np.ndarray:
    return activation.values if isinstance(activation, Sparse) else activation


@settings(max_examples=60)
@given(benign=st.lists(ragged_run(), min_size=1, max_size=9), incident=st.lists(ragged_run(), min_size=1, max_size=2))
def test_every_site_has_a_p_value_or_a_reason(benign: list[Run], incident: list[Run]) -> None:
    broken = MemoryRecording("i", incident, [f"x{number}" for number in range(len(incident))])
    assume(any(np.any(np.isfinite(values) & (values != 0)) for run in benign for values in map(stored, run.values())))
    fitted = fit(*benign)
    result = analyze(broken, fitted, CONFIG)
    names = {info.name for info in fitted.sites}
    groups = {name: sum(name in run and run[name].shape[0] > 0 for run in benign) for name in names}
    for row in result.metrics:
        assert (row.p_value is None) == (row.not_judged is not None)
        recorded = any(row.site in run and run[row.site].shape[0] > 0 for run in incident)
        if row.site not in names:
            assert row.not_judged == "the baseline lacks this site"
        elif recorded and groups[row.site] < 5 and "compared" not in (row.not_judged or ""):
            assert (row.not_judged or "").startswith(f"recorded in {groups[row.site]} baseline group")
    lacking = names - {name for run in incident for name in run if run[name].shape[0]}
    assert any("not recorded here" in warning for warning in result.warnings) == bool(lacking)
    assert (result.anomaly_score is None) == (result.p_value is None)
    assert (result.anomaly_score is not None) or all(row.p_value is None for row in result.metrics)
    for value in (result.anomaly_score, result.p_value, *(row.rank_score for row in result.metrics)):
        assert value is None or np.isfinite(value)
