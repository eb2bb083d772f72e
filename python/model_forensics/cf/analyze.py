"""Judge one recording against a baseline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from model_forensics.cf.baseline import Baseline
from model_forensics.cf.blocks import Block
from model_forensics.cf.calibration import Calibration
from model_forensics.cf.compatibility import check_models, check_sites, version_difference
from model_forensics.cf.features.table import measure
from model_forensics.cf.fitting import models_of
from model_forensics.cf.integrity import hard_flags
from model_forensics.cf.judging import incident_p_value, incident_score, judge
from model_forensics.cf.limits import limitations
from model_forensics.cf.moments import Moments
from model_forensics.cf.onset import find_onset, make_onset
from model_forensics.cf.planes import Layout, read_entries, select
from model_forensics.cf.reading import Instrument, read, release_memory
from model_forensics.cf.rows import rows_of, rows_without_baseline
from model_forensics.types import ForensicsResult, Onset, SiteMetrics

if TYPE_CHECKING:
    from model_forensics.config import ForensicsConfig
    from model_forensics.types import Recording


def analyze(
    recording: Recording,
    baseline: Baseline | None,
    config: ForensicsConfig,
    *,
    windows: bool = True,
    memory: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ForensicsResult:
    """Which sites does this recording use in a way that benign runs do not, how sure is that, and where did it begin?

    Args:
        recording: all of its samples are read; they combine by group.
        baseline: None gives integrity and bits only.
        windows: whether sites show where inside them: windows and profiles, which a mere ranking has no use for.
        memory: bytes that recorded values may take while they are measured; None reads all sites of a sample at once.
            The result is the same to the last bit. A site is never divided: see `least_memory`.
        progress: called with (samples done, samples), counting a sample once for each block of sites.

    Raises:
        BaselineError: the recording is of another architecture, tokeniser or shape than the baseline.
    """
    if baseline is None:
        return _without_baseline(recording, config, memory, progress)
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
    reading = read(
        recording,
        baseline.layout,
        lambda block: baseline.instrument(block, methods),
        progress,
        windows=windows,
        memory=memory,
    )
    calibration = baseline.calibration(methods).for_groups(len({sample.group for sample in recording.samples}))
    judged = judge(reading, recording, baseline, calibration, warnings)
    metrics = rows_of(
        recording, reading, baseline, calibration, judged, methods, config, windows=windows, memory=memory
    )
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
    p_value = incident_p_value(judged, hard, calibration)
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
    recording: Recording,
    config: ForensicsConfig,
    memory: int | None,
    progress: Callable[[int, int], None] | None,
) -> ForensicsResult:
    """Integrity, and bits under models fitted to this very recording."""
    methods = config.compression_methods

    def fitted(block: Block) -> Instrument:
        layout = block.layout
        first, later = Moments.empty(layout), Moments.empty(layout)
        for sample in range(len(recording.samples)):
            entries = read_entries(recording, sample, layout)
            first.add(select(entries, 0))
            later.add(select(entries, 1))
            if memory is not None:
                release_memory(recording)
        models = models_of((first, later), layout)
        return Instrument(lambda entries: measure(entries, models, layout, methods, config.entropy_window))

    reading = read(recording, Layout(tuple(recording.sites.values())), fitted, progress, memory=memory)
    return ForensicsResult(
        metrics=rows_without_baseline(reading, methods),
        anomaly_score=None,
        p_value=None,
        strongest=None,
        onset=None,
        baseline_id=None,
        baseline_groups=None,
        version_difference=None,
        warnings=("no baseline: anomaly scores are null; bits are under models fitted to this very recording",),
    )
