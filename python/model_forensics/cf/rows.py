"""Rows of a result: what was measured and judged at each site.

Rows are dictionaries until all are there: to validate them in one call takes half as long as one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from pydantic import TypeAdapter
from scipy.special import ndtri

from model_forensics.cf.baseline import Baseline, nanmedian_rows
from model_forensics.cf.blocks import Block
from model_forensics.cf.calibration import Calibration, Scores
from model_forensics.cf.features.table import COLUMN, Measured
from model_forensics.cf.integrity import DEPARTS_AT, WORDS, hard_flags
from model_forensics.cf.judging import Judged
from model_forensics.cf.limits import dtype_differences
from model_forensics.cf.planes import Floats, Layout
from model_forensics.cf.reading import Instrument, Reading, read
from model_forensics.cf.windows import entropy_profile, worst_windows
from model_forensics.types import SiteInfo, SiteMetrics

if TYPE_CHECKING:
    from model_forensics.config import ForensicsConfig
    from model_forensics.types import Recording

Row = dict[str, Any]  # fields of a `SiteMetrics`

DETAILED_SITES = 5
_ROWS: Final = TypeAdapter(tuple[SiteMetrics, ...])


def rows_of(
    recording: Recording,
    reading: Reading,
    baseline: Baseline,
    calibration: Calibration,
    judged: Judged,
    methods: Sequence[str],
    config: ForensicsConfig,
    *,
    windows: bool,
    memory: int | None,
) -> tuple[SiteMetrics, ...]:
    """One row for each site of the recording, in its order, sites that the baseline lacks included."""
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
    given = [None] * len(p) if judged.given_upstream is None else _numbers(judged.given_upstream)
    seen = tokens.sum(axis=0).tolist()
    unknown = Layout(tuple(info for info in recording.sites.values() if info.name not in reading.layout.index))
    extra = _unknown(recording, unknown, memory) if len(unknown) else []
    rows: list[Row] = []
    for info in recording.sites.values():
        site = reading.layout.index.get(info.name)
        if site is None:
            rows.append(extra[unknown.index[info.name]])
            continue
        sigma = sigmas[site]
        anomalous = hard[site] or (sigma is not None and sigma > config.anomaly_threshold)
        rows.append(
            {
                **_site(info),
                "tokens": seen[site],
                "integrity": integrity[site],
                "anomaly_score": sigma,
                "p_value": p[site],
                "q_value_bh": bh[site],
                "q_value_by": by[site],
                "is_anomalous": anomalous,
                "rank_score": rank[site],
                "given_upstream": given[site],
                "not_judged": judged.reasons[site],
                "methods": by_method[site],
                "worst_windows": worst_windows(reading.details(site), site, calibration.judge.reference)
                if windows and (anomalous or site in worst)
                else (),
                "token_profile": reading.profiles[site] or None,
                "entropy_profile": _entropy_profile(reading, site) if site in worst else None,
            }
        )
    return _ROWS.validate_python(rows)


def rows_without_baseline(reading: Reading, methods: Sequence[str]) -> tuple[SiteMetrics, ...]:
    """Integrity and bits of each site of the layout."""
    tables, tokens = reading.tables, reading.tokens.sum(axis=0).tolist()
    bits = {name: _numbers(_median(tables[:, :, columns])) for name, columns in _bits_columns(methods).items()}
    integrity, hard = reading.integrity.results(reading.layout), hard_flags(reading.integrity)
    rows: list[Row] = []
    for site, info in enumerate(reading.layout.sites):
        scores = {name: _method(values[site], None, None, None) for name, values in bits.items()}
        rows.append(_unscored(info, tokens[site], integrity[site], "no baseline", hard[site], scores))
    return _ROWS.validate_python(rows)


def _unknown(recording: Recording, sites: Layout, memory: int | None) -> list[Row]:
    """Sites that the baseline lacks: their integrity."""
    reading = read(recording, sites, _no_instrument, None, memory=memory)
    counts = zip(sites.sites, reading.tokens.sum(axis=0).tolist(), reading.integrity.results(sites), strict=True)
    reason, hard = "the baseline lacks this site", hard_flags(reading.integrity)
    return [_unscored(*row, reason, bad, {}) for row, bad in zip(counts, hard, strict=True)]


def _no_instrument(block: Block) -> Instrument:
    return Instrument(lambda entries: Measured(np.zeros((len(block.layout), 0)), ()))


def _entropy_profile(reading: Reading, site: int) -> tuple[float, ...] | None:
    """Of the first sample."""
    block = next(part for part in reading.blocks if part.block.sites.start <= site < part.block.sites.stop)
    return entropy_profile(block.details[0].measured, site - block.block.sites.start)


def _unscored(info: SiteInfo, tokens: int, integrity: Row, reason: str, anomalous: bool, methods: Row) -> Row:
    """A site without a score; anomalous only by what is wrong in itself."""
    return {
        **_site(info),
        "tokens": tokens,
        "integrity": integrity,
        "anomaly_score": None,
        "p_value": None,
        "q_value_bh": None,
        "q_value_by": None,
        "is_anomalous": anomalous,
        "rank_score": None,
        "not_judged": reason,
        "methods": methods,
    }


def _site(info: SiteInfo) -> Row:
    return {
        "site": info.name,
        "module": info.module,
        "kind": info.kind,
        "layer": info.layer,
        "features": info.features,
    }


def _method(bits: float | None, expected: float | None, sigma: float | None, p_value: float | None) -> Row:
    return {"bits": bits, "baseline_bits": expected, "sigma": sigma, "p_value": p_value}


def _method_scores(reading: Reading, baseline: Baseline, judged: Judged, methods: Sequence[str]) -> list[Row]:
    """Per site of the layout."""
    result: list[Row] = [{} for _ in reading.layout.sites]
    tables = reading.tables
    for method, columns in _bits_columns(methods).items():
        p_values = judged.methods.get(method, np.full(len(reading.layout), np.nan))
        values = (_median(tables[:, :, columns]), baseline.median_bits(columns), -ndtri(p_values), p_values)
        for row, bits, expected, sigma, p in zip(result, *map(_numbers, values), strict=True):
            row[method] = _method(bits, expected, sigma, p)
    return result


def _bits_columns(methods: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Of each method that a row shows, the columns that hold its bits."""
    names = {"arithmetic": "bits", "zlib": "zlib", "gzip": "gzip"}
    chosen = {method: (COLUMN[names[method]],) for method in methods}
    return chosen | {"entropy": (COLUMN["first.entropy"], COLUMN["later.entropy"])}


def _median(values: Floats) -> Floats:
    """[sites] median over samples and columns of [samples, sites, columns], NaN left out."""
    moved = np.moveaxis(values, 1, 0).reshape(values.shape[1], -1)
    return nanmedian_rows(moved)


def _numbers(values: Floats) -> list[float | None]:
    """Of each value; None where it is not finite."""
    result: list[float | None] = values.tolist()
    for place in np.flatnonzero(~np.isfinite(values)):
        result[place] = None
    return result


def _integrity_scores(scores: Scores) -> list[dict[str, float]]:
    """Per site, those that depart: the larger of both position classes, by magnitude."""
    result: list[dict[str, float]] = [{} for _ in scores.statistic]
    for name in WORDS:
        both = np.nan_to_num(scores.normal[:, [COLUMN[f"first.{name}"], COLUMN[f"later.{name}"]]], posinf=0, neginf=0)
        larger = both[np.arange(len(both)), np.abs(both).argmax(axis=1)]
        for site in np.flatnonzero(np.abs(larger) >= DEPARTS_AT):
            result[site][name] = float(larger[site])
    return result
