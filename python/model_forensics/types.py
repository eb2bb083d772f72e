"""The data that stages pass to one another, and the results document.

Everything here is frozen. Arrays are NumPy; nothing in this module needs torch. The results
document (`AnalysisResult`) is what `results.json` holds; its JSON Schema is derived from these classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from model_forensics.failure import Failure

RESULTS_SCHEMA_VERSION: Final = "1.0"

SiteKind = Literal["embed", "attn", "mlp", "head", "neuron", "resid", "final_norm", "logits", "module"]
BundleKind = Literal["incident", "benign"]
InterventionKind = Literal["zero", "mean", "patch"]
DonorKind = Literal["benign_mean", "benign_sample", "contrast", "reference_model"]
Minimality = Literal["none", "local", "subset", "cardinality"]
Verdict = Literal[
    "cause_found",  # a smallest set of interventions restores the right behaviour
    "workaround_found",  # a set flips the failure without restoring the computation
    "no_fix_found",  # the failure reproduces; no set within the limits removes it
    "not_reproduced",  # the failure does not happen on replay
    "anomaly_located",  # forensics only: sites depart from the baseline
    "nothing_anomalous",  # forensics only: no site departs from the baseline
    "not_judged",  # forensics only, and no baseline to judge with
]


class Frozen(BaseModel):
    """Base of every document class: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


# --- recordings -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sparse:
    """A sparse activation of one sample: entries that were not recorded are absent, not zero.

    Attributes:
        values: [entries], the recorded values.
        indices: [entries] int64, strictly increasing flat positions into `shape` (C order).
        shape: (rows, features) of the full activation.
    """

    values: npt.NDArray[Any]
    indices: npt.NDArray[np.int64]
    shape: tuple[int, int]


class ModelReference(Frozen):
    """Which model produced a recording. It names a model; it never makes the program import code."""

    source: str | None = None  # directory (relative ones start at the bundle) or hub id
    architecture: str  # class name, for example GPT2LMHeadModel
    family: str  # gpt2, llama, bert, vit, or module for anything else
    layers: int | None = None
    width: int | None = None  # features of the residual stream
    dtype: str | None = None
    weights_digest: str | None = None  # "sha256:…" over all parameters and buffers
    tensor_digests: dict[str, str] | None = None  # per parameter, to name what differs between versions
    tokenizer_digest: str | None = None


class SiteInfo(Frozen):
    """One recorded site of a bundle."""

    name: str
    module: str  # real module path
    kind: SiteKind
    layer: int | None
    features: int
    dtype: Literal["float64", "float32", "float16", "bfloat16"]
    layout: Literal["dense", "sparse"] = "dense"


class Sample(Frozen):
    """One input with its run.

    `call` and `row` say which batch of the recording it was part of, so that a replay can use the same composition.
    """

    sample_id: str
    group: str  # prompt or conversation; samples of a group are not independent
    call: int
    row: int
    tokens: int  # rows of its activations that are real tokens (padding removed)
    text: str | None = None
    right: tuple[int, ...] | None = None  # overrides the failure's right answers for this sample
    wrong: tuple[int, ...] | None = None
    generated_from: int | None = None  # first generated token, when the run was a generation


class Recording(Protocol):
    """What the stages read from a bundle, on disk or in memory."""

    @property
    def bundle_id(self) -> str: ...
    @property
    def kind(self) -> BundleKind: ...
    @property
    def created_at(self) -> datetime: ...
    @property
    def path(self) -> Path | None: ...
    @property
    def content_digest(self) -> str | None:
        """`sha256:…` that pins all of a stored bundle's content; None for a recording in memory."""
        ...

    @property
    def model(self) -> ModelReference | None: ...
    @property
    def failure(self) -> Failure | None: ...
    @property
    def samples(self) -> Sequence[Sample]: ...
    @property
    def sites(self) -> Mapping[str, SiteInfo]:
        """In execution order."""
        ...

    def activation(self, site: str, sample: int) -> npt.NDArray[Any] | Sparse:
        """[rows, features] of one sample; bfloat16 comes widened to float32 (exact), others as stored.

        Raises:
            UnknownSite: the site was not recorded.
        """
        ...

    def has_activation(self, site: str, sample: int) -> bool:
        """Whether this sample recorded this site (a bundle may lack some sites for some samples)."""
        ...

    def recorded_activations(self, sites: Sequence[str], sample: int) -> Mapping[str, npt.NDArray[Any] | Sparse]:
        """`activation` of those of `sites` that this sample recorded."""
        ...

    def inputs(self, call: int) -> Mapping[str, npt.NDArray[Any]]:
        """The model's keyword inputs of one batch, exactly as passed: [rows, …]."""
        ...

    def outputs(self, sample: int) -> Mapping[str, npt.NDArray[Any]]:
        """Recorded outputs of one sample; `logits` is [positions, classes], the scored positions only."""
        ...


# --- compression forensics --------------------------------------------------------------------


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


# --- causal minimal fix sets --------------------------------------------------------------------


class Interval(Frozen):
    low: float
    high: float
    level: float = 0.95
    method: str = "Clopper-Pearson"


class Donor(Frozen):
    """Where replacement activations come from."""

    kind: DonorKind
    source: str | None  # bundle path or model source
    weights_digest: str | None = None
    same_input: bool  # the donor ran on the very same input, so positions correspond


class Intervention(Frozen):
    """One edit at one site."""

    site: str
    kind: InterventionKind
    donor: Donor | None = None  # null for zero
    positions: tuple[int, ...] | None = None  # token positions, null for all

    def __str__(self) -> str:
        return f"{self.kind} {self.site}"


class SideEffects(Frozen):
    """What a fix set does to benign samples, against their recorded outputs."""

    samples: int
    changed: int  # top-1 output differs from the recorded one, with the fix
    changed_without_fix: int  # the same without the fix (not zero when the model's version differs)
    changed_rate: float
    interval: Interval
    kl_mean_bits: float
    kl_max_bits: float


class Certificate(Frozen):
    """What a fix set's level of minimality rests on; all on the samples that the search saw."""

    candidates: int  # interventions that sets were drawn from
    exhausted: int  # every set of these up to this size was run
    forwards: int  # rows run through the model when the search ended, self-checks included


class Finer(Frozen):
    """Parts of a fix set's components that repair as well; measured on the samples of its evidence.

    Not a claim of cause: at single positions a patch may merely carry the answer.
    """

    interventions: tuple[Intervention, ...]  # heads, `L3.neuron64-79` for neighbouring neurons, and positions
    flip_rate: float
    samples: int
    recovery: float | None
    bits_replaced: float


class CopyCheck(Frozen):
    """Whether a set makes the run answer whatever its donor answered: it carries an answer and repairs nothing."""

    checks: int  # runs with the activations of a donor run on another input, which gave another answer
    copied: int  # of these, runs that gave that other answer


class Shams(Frozen):
    """Sets drawn to resemble a fix set: same kinds of sites, interventions and positions, similar depth and bits."""

    sets: int
    sufficient: int
    interval: Interval  # of the share that is sufficient
    flip_rate: float  # mean over the sets
    highest_flip_rate: float
    layer_distance: int  # a member's stand-in was at most so many layers away
    bits_ratio: float  # and at most so many times as large or small in bits replaced


class Reversal(Frozen):
    """The incident's activations at a fix set's sites, put into the reference model's runs on the same inputs."""

    samples: int
    failures: int  # of these, how many then fail
    interval: Interval  # over groups


class Shuffled(Frozen):
    """The whole search, repeated with the donor's activations dealt out among the samples at random."""

    repeats: int
    as_good: int  # repeats that found a set of at most as many components that does as well on held-out samples
    p_value: float | None  # (1 + as_good) / (1 + repeats); null with fewer than 19 repeats


FixSetLabel = Literal["cause", "workaround", "answer_copied"]


class FixSet(Frozen):
    """A set of interventions and what was measured by running it."""

    interventions: tuple[Intervention, ...]
    label: FixSetLabel
    sufficient: bool  # flip_rate ≥ early_stop_threshold
    flips: int
    samples: int
    groups: int
    flip_rate: float
    flip_interval: Interval  # over groups
    suppressed: int  # failure gone, output otherwise wrong or its rightness unknown
    in_sample: bool  # the evidence uses the samples that the search saw
    recovery: float | None  # median of (fixed − failed)/(donor − failed)
    explained_away: float | None  # share of anomalous sites outside the patch that return to the baseline
    necessity: tuple[float, ...]  # per intervention: flip rate lost when it is left out
    side_effects: SideEffects | None
    minimality: Minimality
    bits_replaced: float | None
    certificate: Certificate | None = None  # null where no search established the level
    finer: Finer | None = None  # null where nothing finer repairs as well, or none was looked for
    copy_check: CopyCheck | None = None  # null without patches, or where no donor run fits that gave another answer
    shams: Shams | None = None  # null where no set resembles it, or for a set that is not the result's
    reversal: Reversal | None = None  # null without a reference model, or for a set that is not the result's
    shuffled: Shuffled | None = None  # null unless asked for (`evidence: full`) and possible

    def __str__(self) -> str:
        return ", ".join(str(intervention) for intervention in self.interventions)


class Replay(Frozen):
    """The replayed run against the recorded outputs, before any intervention."""

    reproduced: bool
    bit_identical: bool
    max_error: float  # largest |difference| / largest |recorded logit|
    samples: int
    failing: int  # samples that fail on replay


class Execution(Frozen):
    """How sets were run: together with threads and machine, what bit-for-bit equal results take."""

    from_middle: bool  # rows start at the first half of a layer and the first token that they change
    reason: str | None  # why not, where they do not
    rows_from_middle: int  # rows that did not run the whole model
    max_batch_rows: int
    memory_limit: int | None  # bytes that one batch was planned for; null where nothing stated any
    halvings: int  # batches that ran out of memory and were split


class SearchSpent(Frozen):
    strategy: str
    pool: tuple[str, ...]  # sites that were candidates
    forwards: int  # rows run through the model, self-checks included
    combinations: int  # distinct sets that were run
    self_check_max_error: float  # fast against plain hooks, relative to the largest logit
    timed_out: bool
    seed: int
    execution: Execution | None = None
    left_out: int = 0  # sites that were not in the pool, because it was large and others looked more promising
    attribution_agreement: float | None = None  # rank correlation of estimated and measured effects, where estimated


class CausalResult(Frozen):
    """What `cca` found."""

    replay: Replay
    fix_set: FixSet | None
    alternatives: tuple[FixSet, ...]
    workarounds: tuple[FixSet, ...]
    best_effect: FixSet | None  # the best set seen when none is sufficient
    spent: SearchSpent | None
    warnings: tuple[str, ...]


# --- the results document ------------------------------------------------------------------------


class Evidence(Frozen):
    replay: Replay | None
    search: SearchSpent | None
    best_effect: FixSet | None
    onset_agrees: bool | None  # the fix set's earliest layer is the onset's


class Environment(Frozen):
    """What is needed to re-run the analysis."""

    model_forensics: str
    python: str
    platform: str
    numpy: str
    torch: str | None
    transformers: str | None
    device: str | None
    threads: int | None
    backends: dict[str, str]  # operation → backend that served it
    seed: int
    configuration: dict[str, Any]
    model_source: str | None
    model_factory: str | None
    weights_digest: str | None
    donor_source: str | None
    incident_path: str | None
    baseline_path: str | None


class BundleSummary(Frozen):
    """What the report says about the incident."""

    path: str | None
    created_at: datetime
    samples: int
    groups: int
    tokens: int
    sites: int
    bytes: int | None
    model: ModelReference | None
    failure: str | None  # in words


class AnalysisResult(Frozen):
    """`results.json`. Missing is null, never a made-up number."""

    schema_version: Literal["1.0"] = RESULTS_SCHEMA_VERSION
    bundle_id: str
    verdict: Verdict
    confidence: float | None
    execution_time: float  # seconds
    anomaly_score: float | None
    anomaly_p_value: float | None = None
    compression_metrics: tuple[SiteMetrics, ...]
    onset: Onset | None
    strongest: Onset | None
    fix_set: FixSet | None
    alternatives: tuple[FixSet, ...] = ()
    workarounds: tuple[FixSet, ...] = ()
    evidence: Evidence
    version_difference: VersionDifference | None = None
    incident: BundleSummary
    environment: Environment
    warnings: tuple[str, ...] = ()
    export_path: str | None = None


class TriageEntry(Frozen):
    """One bundle of a triage. `error` is set, and everything measured null, when the bundle was refused."""

    path: str
    bundle_id: str | None
    created_at: datetime | None
    bytes: int | None
    samples: int | None
    anomaly_score: float | None
    p_value: float | None
    strongest: str | None  # most suspicious site
    onset: str | None
    anomalous_sites: int | None
    error: str | None = None


class Validation(Frozen):
    """A fix set measured anew beside what the results file says."""

    holds: bool
    reason: str
    recorded: FixSet
    measured: FixSet
