"""What compression forensics found in one recording."""

from __future__ import annotations

from pydantic import Field

from model_forensics.types.base import Frozen
from model_forensics.types.recordings import SiteKind


class Integrity(Frozen):
    """Counts over one site of a recording. Nonfinite values are masked out of every other statistic."""

    values: int
    nan: int
    inf: int
    first_nonfinite: tuple[int, int, int] | None  # (sample, token, channel)
    all_zero: bool
    zero_fraction: float
    constant_channels: int | None
    distinct_fraction: float | None  # distinct values / values, of at most 65,536 values
    low_mantissa_fraction: float | None  # share of float32 values with a set bit below bfloat16's mantissa
    saturated_fraction: float | None  # share of values at the largest magnitude
    flags: tuple[str, ...] = ()  # in words: what departs from the baseline or is wrong in itself


class MethodScore(Frozen):
    """What one method saw at one site."""

    bits: float | None  # bits per value under the method
    baseline_bits: float | None  # what benign recordings cost, median
    sigma: float | None  # standardised departure from the baseline
    p_value: float | None


class Window(Frozen):
    sample: int
    token_start: int
    token_stop: int
    channel_start: int
    channel_stop: int
    bits: float
    sigma: float | None


class SiteMetrics(Frozen):
    """One row of `compression_metrics`: one site."""

    site: str
    module: str
    kind: SiteKind
    layer: int | None
    tokens: int
    features: int
    integrity: Integrity
    anomaly_score: float | None  # sigma-equivalent of p_value; null without a sufficient baseline
    p_value: float | None
    q_value_bh: float | None
    q_value_by: float | None
    is_anomalous: bool
    rank_score: float | None  # the statistic itself; ranks sites also where no p-value is possible
    given_upstream: float | None = None  # family-wise p-value given what runs before; of these the onset is chosen
    not_judged: str | None = None  # why there is no score
    methods: dict[str, MethodScore] = Field(default_factory=dict)
    worst_windows: tuple[Window, ...] = ()
    token_profile: tuple[float | None, ...] | None = None  # mean excess bits per token of sample 0's recording
    entropy_profile: tuple[float, ...] | None = None  # bits per symbol of each window, worst sites only


class Onset(Frozen):
    site: str  # a site name, or "input" when the very first site already departs
    p_value: float
    sigma: float


class VersionDifference(Frozen):
    """The recording and the baseline come from models of one architecture with other weights."""

    recording_digest: str
    baseline_digest: str
    tensors: tuple[str, ...] | None  # names that differ, where both recordings carry per-tensor digests
    sites: tuple[str, ...] | None


class ForensicsResult(Frozen):
    """What `cf` found in one recording."""

    metrics: tuple[SiteMetrics, ...]  # in execution order
    anomaly_score: float | None  # incident level, [0, 1]; 0.8 means "at the threshold"
    p_value: float | None
    strongest: Onset | None
    onset: Onset | None
    baseline_id: str | None
    baseline_groups: int | None
    version_difference: VersionDifference | None
    warnings: tuple[str, ...]
