"""Judge one recording against a baseline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtri

from model_forensics.cf.baseline import Baseline, nanmedian_rows
from model_forensics.cf.calibration import MINIMUM_GROUPS, Calibration, Scores, q_values
from model_forensics.cf.compatibility import check_models, check_sites, version_difference
from model_forensics.cf.features.table import COLUMN, Measured, measure
from model_forensics.cf.fitting import models_of
from model_forensics.cf.integrity import DEPARTS_AT, WORDS, IntegrityCounts, hard_flags
from model_forensics.cf.limits import dtype_differences, layout_differences, limitations, reasons_not_judged
from model_forensics.cf.moments import Moments
from model_forensics.cf.onset import find_onset, make_onset
from model_forensics.cf.planes import Entries, Floats, Layout, read_entries, select
from model_forensics.cf.windows import SampleDetail, entropy_profile, token_profiles, worst_windows
from model_forensics.types import ForensicsResult, Integrity, MethodScore, Onset, SiteInfo, SiteMetrics

if TYPE_CHECKING:
    from model_forensics.config import ForensicsConfig
    from model_forensics.types import Recording

DETAILED_SITES = 5


@dataclass(frozen=True)
class Reading:
    """Everything measured on a recording before it is judged."""

    layout: Layout
    integrity: IntegrityCounts
    details: tuple[SampleDetail, ...]
    profiles: Sequence[tuple[float | None, ...]]
    sketches: Floats | None  # [samples, sites, sketch]; None without a baseline

    @property
    def tables(self) -> Floats:
        return np.stack([detail.measured.table for detail in self.details])

    @property
    def tokens(self) -> np.ndarray:
        return np.stack([detail.tokens for detail in self.details])


@dataclass(frozen=True)
class Judged:
    """Scores of a reading, [sites] float64 each."""

    scores: Scores
    p: Floats
    sigma: Floats
    bh: Floats
    by: Floats
    methods: dict[str, Floats]  # p-values
    reasons: list[str | None]
    given_upstream: Floats | None = None  # family-wise p-values; None where the baseline has too few groups


def analyze(
    recording: Recording,
    baseline: Baseline | None,
    config: ForensicsConfig,
    *,
    windows: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> ForensicsResult:
    """Which sites does this recording use in a way that benign runs do not, how sure is that, and where did it begin?

    Args:
        recording: all of its samples are read; they combine by group.
        baseline: None gives integrity and bits only.
        windows: whether sites show where inside them: windows and profiles, which a mere ranking has no use for.
        progress: called with (samples done, samples).

    Raises:
        BaselineError: the recording is of another architecture, tokeniser or shape than the baseline.
    """
    if baseline is None:
        return _without_baseline(recording, config, progress)
    where = str(recording.path or recording.bundle_id)
    check_models(baseline.model, recording.model, where)
    check_sites(baseline.layout, recording.sites.values(), where)
    warnings = list(baseline.warnings)
    methods = [method for method in config.compression_methods if method in baseline.methods]
    for missing in (method for method in config.compression_methods if method not in baseline.methods):
        warnings.append(f"the baseline was fitted without {missing}, so it is not scored")
    if config.entropy_window != baseline.window:
        warnings.append(f"entropy windows have the baseline's {baseline.window} symbols, not {config.entropy_window}")
    # zlib and gzip go site by site: sites that the recording lacks cost nothing.
    reading = _read(
        recording,
        baseline.layout,
        lambda e: baseline.measure(e, methods),
        progress,
        windows=windows,
        sketch_one=baseline.sketcher.mean,
    )
    calibration = baseline.calibration(methods).for_groups(len({sample.group for sample in recording.samples}))
    judged = _judge(reading, recording, baseline, calibration, warnings)
    metrics = _metrics(recording, reading, baseline, calibration, judged, methods, config, windows=windows)
    warnings += limitations(baseline, recording, reading.tables, reading.tokens)
    present = [position for position, detail in enumerate(reading.tokens.max(axis=0)) if detail > 0]
    hard = hard_flags(reading.integrity)
    onset, reason = find_onset(
        [baseline.layout.sites[position].name for position in present],
        None if judged.given_upstream is None else judged.given_upstream[present],
        [hard[position] for position in present],
        None if calibration.sites is None else calibration.sites.floor,
    )
    if reason:
        warnings.append(reason)
    p_value = _incident_p_value(judged, hard, calibration)
    return ForensicsResult(
        metrics=metrics,
        anomaly_score=None if p_value is None else incident_score(p_value, config.anomaly_threshold),
        p_value=p_value,
        strongest=_strongest(metrics, calibration),
        onset=onset,
        baseline_id=baseline.baseline_id,
        baseline_groups=baseline.groups,
        version_difference=version_difference(recording.model, baseline.model, baseline.layout),
        warnings=tuple(warnings),
    )


def incident_score(p_value: float, threshold: float) -> float:
    """s/(s + threshold/4) with s = max(0, sigma of p): 0.8 is at the threshold."""
    sigma = max(0.0, -float(ndtri(max(p_value, 1e-300))))
    return sigma / (sigma + threshold / 4)


def _read(
    recording: Recording,
    layout: Layout,
    measure_one: Callable[..., Measured],
    progress: Callable[[int, int], None] | None,
    *,
    windows: bool = True,
    sketch_one: Callable[[Entries], Floats] | None = None,
) -> Reading:
    dense = np.array(
        [recording.sites[i.name].layout == "dense" if i.name in recording.sites else False for i in layout.sites]
    )
    integrity = IntegrityCounts.empty(layout, dense)
    details: list[SampleDetail] = []
    profiles: Sequence[tuple[float | None, ...]] = [()] * len(layout)
    sketches: list[Floats] = []
    total = len(recording.samples)
    for sample in range(total):
        entries = read_entries(recording, sample, layout)
        integrity.add(entries, sample, layout)
        measured = measure_one(entries)
        if sample == 0 and windows:
            profiles = token_profiles(measured, entries)
        details.append(SampleDetail(measured if sample == 0 else measured.without_entries(), entries.rows))
        if sketch_one is not None:
            sketches.append(sketch_one(entries))
        if progress is not None:
            progress(sample + 1, total)
    return Reading(layout, integrity, tuple(details), profiles, np.stack(sketches) if sketches else None)


def _judge(
    reading: Reading, recording: Recording, baseline: Baseline, calibration: Calibration, warnings: list[str]
) -> Judged:
    layouts = layout_differences(baseline, recording)
    comparable = np.array([difference is None for difference in layouts])
    tables = np.where(comparable[:, None], reading.tables, np.nan)
    assert reading.sketches is not None
    innovations = np.stack([baseline.innovations.of(sketch) for sketch in reading.sketches])
    profiles = np.where(comparable[:, None], innovations, np.nan)
    groups = [sample.group for sample in recording.samples]
    scores = calibration.score(tables, reading.tokens, profiles, groups)
    reasons = reasons_not_judged(baseline, reading.tokens, scores.statistic, layouts)
    nothing = np.full(len(reading.layout), np.nan)
    if calibration.sites is None:
        warnings.append(
            f"insufficient baseline: at most {baseline.judged_groups.max()} groups recorded a site, "
            f"p-values need {MINIMUM_GROUPS}; sites are ranked only"
        )
        return Judged(scores, nothing, nothing, nothing, nothing, {}, reasons)
    unjudged = np.array([reason is not None for reason in reasons])
    p = np.where(unjudged, np.nan, calibration.sites.p_values(scores.statistic))
    bh, by = q_values(p)
    by_method = {
        name: np.where(unjudged, np.nan, null.p_values(scores.methods[name]))
        for name, null in calibration.methods.items()
    }
    given = None
    if calibration.onset is not None and scores.shift is not None:
        given = np.where(unjudged, np.nan, calibration.onset.p_values(scores.given_upstream, scores.shift))
    return Judged(scores, p, -ndtri(p), bh, by, by_method, reasons, given)


def _metrics(
    recording: Recording,
    reading: Reading,
    baseline: Baseline,
    calibration: Calibration,
    judged: Judged,
    methods: Sequence[str],
    config: ForensicsConfig,
    *,
    windows: bool,
) -> tuple[SiteMetrics, ...]:
    hard = hard_flags(reading.integrity)
    statistic = np.where(np.isfinite(judged.scores.statistic), judged.scores.statistic, -np.inf)
    order = sorted(range(len(reading.layout)), key=lambda site: (not hard[site], -statistic[site]))
    worst = {site for site in order[:DETAILED_SITES] if windows and (np.isfinite(statistic[site]) or hard[site])}
    tokens = reading.tokens
    by_method = _method_scores(reading, baseline, judged, methods)
    integrity = reading.integrity.results(
        reading.layout, _integrity_scores(judged.scores), dtype_differences(baseline, recording)
    )
    rank, sigmas = _numbers(judged.scores.statistic), _numbers(judged.sigma)
    p, bh, by = _numbers(judged.p), _numbers(judged.bh), _numbers(judged.by)
    seen = tokens.sum(axis=0).tolist()
    unknown = Layout(tuple(info for info in recording.sites.values() if info.name not in reading.layout.index))
    extra = _unknown(recording, unknown) if len(unknown) else []
    rows: list[SiteMetrics] = []
    for info in recording.sites.values():
        site = reading.layout.index.get(info.name)
        if site is None:
            rows.append(extra[unknown.index[info.name]])
            continue
        sigma = sigmas[site]
        show = site in worst or (windows and (hard[site] or (sigma is not None and sigma > config.anomaly_threshold)))
        rows.append(
            SiteMetrics(
                site=info.name,
                module=info.module,
                kind=info.kind,
                layer=info.layer,
                features=info.features,
                tokens=seen[site],
                integrity=integrity[site],
                anomaly_score=sigma,
                p_value=p[site],
                q_value_bh=bh[site],
                q_value_by=by[site],
                is_anomalous=hard[site] or (sigma is not None and sigma > config.anomaly_threshold),
                rank_score=rank[site],
                not_judged=judged.reasons[site],
                methods=by_method[site],
                worst_windows=worst_windows(reading.details, site, reading.layout, calibration.judge.reference)
                if show
                else (),
                token_profile=reading.profiles[site] or None,
                entropy_profile=entropy_profile(reading.details[0].measured, site) if site in worst else None,
            )
        )
    return tuple(rows)


def _unknown(recording: Recording, sites: Layout) -> list[SiteMetrics]:
    """Sites that the baseline lacks: their integrity."""
    reading = _read(recording, sites, lambda e: Measured(np.zeros((len(sites), 0)), ()), None)
    counts = zip(sites.sites, reading.tokens.sum(axis=0).tolist(), reading.integrity.results(sites), strict=True)
    reason, hard = "the baseline lacks this site", hard_flags(reading.integrity)
    return [_unjudged(*row, reason, bad) for row, bad in zip(counts, hard, strict=True)]


def _unjudged(
    info: SiteInfo,
    tokens: int,
    integrity: Integrity,
    reason: str,
    anomalous: bool,
    methods: dict[str, MethodScore] | None = None,
) -> SiteMetrics:
    """A site without a score; anomalous only by what is wrong in itself."""
    return SiteMetrics(
        site=info.name,
        module=info.module,
        kind=info.kind,
        layer=info.layer,
        features=info.features,
        tokens=tokens,
        integrity=integrity,
        anomaly_score=None,
        p_value=None,
        q_value_bh=None,
        q_value_by=None,
        is_anomalous=anomalous,
        rank_score=None,
        not_judged=reason,
        methods=methods or {},
    )


def _method_scores(
    reading: Reading, baseline: Baseline, judged: Judged, methods: Sequence[str]
) -> list[dict[str, MethodScore]]:
    """Per site of the layout."""
    result: list[dict[str, MethodScore]] = [{} for _ in reading.layout.sites]
    tables = reading.tables
    for method, columns in _bits_columns(methods).items():
        p_values = judged.methods.get(method, np.full(len(reading.layout), np.nan))
        values = (_median(tables[:, :, columns]), baseline.median_bits(columns), -ndtri(p_values), p_values)
        for row, bits, expected, sigma, p in zip(result, *map(_numbers, values), strict=True):
            row[method] = MethodScore(bits=bits, baseline_bits=expected, sigma=sigma, p_value=p)
    return result


def _bits_columns(methods: Sequence[str]) -> dict[str, tuple[int, ...]]:
    names = {"arithmetic": "bits", "zlib": "zlib", "gzip": "gzip"}
    chosen = {method: (COLUMN[names[method]],) for method in methods}
    return chosen | {"entropy": (COLUMN["first.entropy"], COLUMN["later.entropy"])}


def _median(values: Floats) -> Floats:
    """[sites] median over samples and columns of [samples, sites, columns], NaN left out."""
    moved = np.moveaxis(values, 1, 0).reshape(values.shape[1], -1)
    return nanmedian_rows(moved)


def _numbers(values: Floats) -> list[float | None]:
    """Of each value; None where it is not finite."""
    return [value if isfinite(value) else None for value in values.tolist()]


def _integrity_scores(scores: Scores) -> list[dict[str, float]]:
    """Per site, those that depart: the larger of both position classes, by magnitude."""
    result: list[dict[str, float]] = [{} for _ in scores.statistic]
    for name in WORDS:
        both = np.nan_to_num(scores.normal[:, [COLUMN[f"first.{name}"], COLUMN[f"later.{name}"]]], posinf=0, neginf=0)
        larger = both[np.arange(len(both)), np.abs(both).argmax(axis=1)]
        for site in np.flatnonzero(np.abs(larger) >= DEPARTS_AT):
            result[site][name] = float(larger[site])
    return result


def _judged_only(values: Floats, judged: Judged) -> Floats:
    return np.where([reason is None for reason in judged.reasons], values, np.nan)


def _incident_p_value(judged: Judged, hard: Sequence[bool], calibration: Calibration) -> float | None:
    if calibration.incident is None or calibration.sites is None:
        return None
    values = _judged_only(judged.scores.statistic, judged)
    finite = values[np.isfinite(values)]
    p = float(calibration.incident.p_values(np.array([finite.max()]))[0]) if finite.size else None
    if any(hard):
        # Benign samples hold none; the smallest p-value that the baseline's size allows to state.
        floor = calibration.sites.floor
        p = floor if p is None else min(p, floor)
    return p


def _strongest(metrics: Sequence[SiteMetrics], calibration: Calibration) -> Onset | None:
    """The most anomalous site: NaN or Inf first, then the smallest p-value, ties by the statistic."""
    if calibration.sites is None:
        return None
    flagged = [row for row in metrics if row.integrity.nan + row.integrity.inf > 0]
    if flagged:
        return make_onset(flagged[0].site, calibration.sites.floor)
    scored = [row for row in metrics if row.p_value is not None]
    if not scored:
        return None
    best = min(scored, key=lambda row: (row.p_value, -(row.rank_score or 0.0)))
    return make_onset(best.site, float(best.p_value or 1.0))


def _without_baseline(
    recording: Recording, config: ForensicsConfig, progress: Callable[[int, int], None] | None
) -> ForensicsResult:
    """Integrity, and bits under models fitted to this very recording."""
    layout = Layout(tuple(recording.sites.values()))
    first, later = Moments.empty(layout), Moments.empty(layout)
    for sample in range(len(recording.samples)):
        entries = read_entries(recording, sample, layout)
        first.add(select(entries, 0))
        later.add(select(entries, 1))
    models = models_of((first, later), layout)
    methods = config.compression_methods
    reading = _read(recording, layout, lambda e: measure(e, models, layout, methods, config.entropy_window), progress)
    tables, tokens, hard = reading.tables, reading.tokens, hard_flags(reading.integrity)
    rows = []
    medians = {name: _numbers(_median(tables[:, :, columns])) for name, columns in _bits_columns(methods).items()}
    integrity = reading.integrity.results(layout)
    for site, info in enumerate(layout.sites):
        bits = {name: values[site] for name, values in medians.items()}
        scores = {n: MethodScore(bits=b, baseline_bits=None, sigma=None, p_value=None) for n, b in bits.items()}
        seen = int(tokens[:, site].sum())
        rows.append(_unjudged(info, seen, integrity[site], "no baseline", hard[site], scores))
    return ForensicsResult(
        metrics=tuple(rows),
        anomaly_score=None,
        p_value=None,
        strongest=None,
        onset=None,
        baseline_id=None,
        baseline_groups=None,
        version_difference=None,
        warnings=("no baseline: anomaly scores are null; bits are under models fitted to this very recording",),
    )
